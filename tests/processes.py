"""Runs functions in several processes with torchrun's environment, and stops runs as a signal would."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from roadmap.config.compose import compose
from roadmap.data.loaders import Timed
from roadmap.errors import StoppedError
from roadmap.runs.run_folder import RunFolder, read_metrics
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer

TIMEOUT = 600  # seconds


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _one(rank: int, size: int, port: int, work: Callable[[], None]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    from roadmap.console import console
    from roadmap.errors import RoadmapError

    try:
        with console(logging.INFO):
            work()
    except RoadmapError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except BaseException:
        traceback.print_exc()
        sys.exit(100)


def in_processes(size: int, work: Callable[[], None]) -> list[int]:
    """Run ``work`` in ``size`` processes that join each other; return their exit statuses."""
    context = multiprocessing.get_context("fork")
    port = free_port()
    processes = [context.Process(target=_one, args=(rank, size, port, work)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        process.kill()  # a process that hangs must not outlive its test
        process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


def train_in(size: int, overrides: Sequence[str]) -> list[int]:
    """Train in ``size`` processes; return their exit statuses."""

    def train() -> None:
        from roadmap.config.compose import compose
        from roadmap.training.run import run_experiment

        run_experiment(compose(overrides))

    return in_processes(size, train)


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


class Command:
    """A command that trains several runs, in a session of its own, as in a terminal.

    ``mark`` stands in the command lines of its worker processes.
    """

    def __init__(self, runs_dir: Path, command: Sequence[str], mark: str, stderr: int):
        self.runs_dir, self.mark = runs_dir, mark
        words = [sys.executable, "-m", "roadmap", *command, f"runs_dir={runs_dir}"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)

    def folders(self) -> list[Path]:
        return sorted(file.parent for file in self.runs_dir.glob("*/summary.json"))

    def statuses(self) -> list[str]:
        return [json.loads((folder / "summary.json").read_text())["status"] for folder in self.folders()]

    def wait_until_two_train(self) -> None:
        wait_for(lambda: sum(bool(read_metrics(folder / "metrics.jsonl")) for folder in self.folders()) >= 2)

    def workers(self) -> list[int]:
        """The worker processes that are left of it."""
        listed = subprocess.run(["ps", "-ww", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
        return [int(pid) for pid, session, args in rows if int(session) == self.process.pid and self.mark in args]

    def kill(self) -> None:
        """Kill what is left of its session."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
