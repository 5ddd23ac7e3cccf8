"""Stops a training run after a given number of updates, as a signal would."""

import os
import signal
from pathlib import Path

import pytest

from roadmap.config.compose import compose
from roadmap.data.loaders import Timed
from roadmap.errors import StoppedError
from roadmap.runs.run_folder import RunFolder
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer


def interrupt(overrides: list[str], after: int) -> Path:
    """Train ``after`` updates, then send this process a signal; return the run's folder."""
    train_step, updates = Trainer.train_step, 0

    def train_step_and_signal(self: Trainer, batches: Timed) -> None:
        nonlocal updates
        train_step(self, batches)
        updates += 1
        if updates == after:
            os.kill(os.getpid(), signal.SIGUSR1)

    request = compose(overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step_and_signal)
        with pytest.raises(StoppedError, match="stopped by SIGUSR1"):
            run_experiment(request)
    folder = RunFolder.find(request.experiment())
    assert folder is not None
    return folder.path
