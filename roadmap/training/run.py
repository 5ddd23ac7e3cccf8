"""Trains one run, from its config to its summary, in one or more processes.

finished already: return its summary
lock the run; load data, build network and optimizer; open the run's folder
repair and load the last checkpoint; train with everything recorded; write predictions and the final summary
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from roadmap.config.compose import Composed
from roadmap.data import Loaders, open_loaders
from roadmap.errors import RequestError, WorkError
from roadmap.runs.run_folder import RunFolder, RunLock
from roadmap.runtime.device import choose_device, within_memory
from roadmap.runtime.distributed import World, init_processes, local_device, lost_process_errors
from roadmap.runtime.progress import ProgressBar
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.build import build_parts, trainer_settings
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.prediction_writer import PredictionWriter, predict_finished_run
from roadmap.training.recorder import Recorder, recorded_errors
from roadmap.training.summary import Summary, final_results, initial_summary
from roadmap.training.trainer import Callbacks, Record, Trainer, TrainingParts

logger = logging.getLogger(__name__)

Pruner = Callable[[list[Record]], None]
Finished = tuple[Summary, RunFolder]


@dataclass(frozen=True)
class Job:
    """A run to train, and the device and processes that train it."""

    composed: Composed
    experiment: Experiment
    device: torch.device
    world: World

    @classmethod
    def of(cls, composed: Composed) -> "Job":
        """Check a config and join the processes that torchrun started. Raises RequestError if it is not valid."""
        experiment = composed.experiment()
        device = local_device(choose_device(experiment.settings.device))
        return cls(composed, experiment, device, init_processes(device))

    @property
    def label(self) -> str:
        """The run's name in messages."""
        return f"{self.experiment.regime} {self.experiment.variant} seed {self.experiment.seed}"


def run_experiment(composed: Composed, stop: StopRequest | None = None, pruner: Pruner | None = None) -> Finished:
    """Train a config, or what remains of it; return the final summary and the run's folder.

    ``stop`` is checked between updates; None: a new one, which catches signals. ``pruner`` is called before each epoch
    but the first, with the rows of all epochs so far, and raises PrunedError to end the run. With torchrun every
    process calls this function. Raises RequestError, with nothing written, if the config is not valid; RunLockedError
    if another process is training this run; WorkError, StoppedError, PrunedError or KeyboardInterrupt after recording
    it in the summary: the same call then resumes from the last checkpoint.
    """
    job = Job.of(composed)
    if (finished := finished_run(job)) is not None:
        return finished
    with locked(job):
        return run_locked(job, stop, pruner)


def run_locked(job: Job, stop: StopRequest | None = None, pruner: Pruner | None = None) -> Finished:
    """Train a run inside ``locked``, as ``run_experiment`` does."""
    # another process may have finished it before this one got the lock
    if (finished := finished_run(job)) is not None:
        return finished
    experiment, world = job.experiment, job.world
    with stop or StopRequest() as stop:
        with world.collective_errors():
            loaders = open_loaders(experiment, job.device, world)
            with within_memory("choose a smaller network"):
                parts = build_parts(experiment, loaders, job.device, world)
        folder = None
        with world.collective_errors():
            if world.is_main:
                folder = RunFolder.open(experiment, job.composed.logged_values, job.composed.overrides)
        folder = world.broadcast(folder)
        if world.is_main:
            logger.debug(f"training on {job.device}, run folder {folder.path}")
            _log_once(_batch_size(loaders))
        return _train(job, loaders, parts, folder, stop, pruner), folder


def _train(
    job: Job, loaders: Loaders, parts: TrainingParts, folder: RunFolder, stop: StopRequest, pruner: Pruner | None
) -> Summary:
    experiment, world = job.experiment, job.world
    checkpoints = Checkpoints(folder.checkpoints, experiment.run_id)
    progress = ProgressBar(job.label, experiment.epochs, shown=world.is_main)
    recorder = Recorder(folder, progress)
    writer = PredictionWriter() if experiment.settings.save_predictions else None
    callbacks = Callbacks(eval_observer=writer)
    if world.is_main:
        callbacks = Callbacks(
            record=recorder.record,
            save=checkpoints.save,
            pruner=lambda: pruner(recorder.rows) if pruner else None,
            on_step=progress.on_step,
            eval_observer=writer,
        )
    trainer = Trainer(parts, loaders, trainer_settings(experiment), job.device, world, stop, callbacks)
    with recorded_errors(recorder, world), lost_process_errors(), progress:
        with world.collective_errors():
            if world.is_main:
                checkpoints.repair()
                recorder.start(initial_summary(experiment, loaders, parts.network, job.device))
        with world.collective_errors():
            _resume(trainer, checkpoints)
            if world.is_main:
                recorder.resume(trainer.state.epoch, experiment.logger)
                progress.start(trainer.state.epoch, trainer.state.updates)
        if writer and trainer.state.epoch == experiment.epochs:  # stopped after the last evaluation
            trainer.evaluate(parts.network, writer)
        trainer.fit()
        if writer:
            top1 = world.broadcast(recorder.rows[-1]["top1"] if world.is_main else None)
            writer.save(experiment, loaders.val, folder, world, top1)
        summary = None
        with world.collective_errors():
            if world.is_main:
                summary = recorder.finish(final_results(recorder.rows, trainer))
        return world.broadcast(summary)


def _resume(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Load the last checkpoint, if there is one. Raises WorkError if the processes read different ones."""
    state = checkpoints.load(trainer.device)
    if state is not None:
        trainer.load_state_dict(state)
    place = (trainer.state.epoch, trainer.state.updates)
    if trainer.world.broadcast(place) != place:
        raise WorkError(
            f"rank {trainer.world.rank} does not see the checkpoint that rank 0 sees; "
            "choose a runs_dir on a disk that all machines share"
        )


@contextmanager
def locked(job: Job) -> Iterator[None]:
    """Hold the run's lock, for all processes of the job. Raises RunLockedError if another process holds it."""
    lock = RunLock(job.experiment.settings.runs_dir, job.experiment.run_id)
    with job.world.collective_errors():
        if job.world.is_main:
            lock.acquire()
    release = lock.release
    try:
        yield
    except RequestError:
        release = lock.discard
        raise
    finally:
        if job.world.is_main:
            release()


def finished_run(job: Job) -> Finished | None:
    """Return the summary and folder of a run that is finished, after writing missing predictions; else None."""
    finished = job.world.broadcast(_finished(job.experiment) if job.world.is_main else None)
    if finished is not None and job.experiment.settings.save_predictions:
        summary, folder = finished
        predict_finished_run(job.experiment, folder, summary["top1"], job.device, job.world)
    return finished


def _finished(experiment: Experiment) -> Finished | None:
    folder = RunFolder.find(experiment)
    if folder is None or experiment.settings.resume != "auto":
        return None
    summary: dict[str, Any] = folder.read_summary() or {}
    return (summary, folder) if summary.get("status") == "finished" else None


def _batch_size(loaders: Loaders) -> str:
    share = loaders.train.share
    return (
        f"batch_size {share.batch_size} = {share.processes} processes x {share.accumulation} accumulation steps "
        f"x micro_batch_size {share.micro_batch_size}"
    )


@cache
def _log_once(message: str) -> None:
    """Log a message unless this process, which may train many runs, has logged it before."""
    logger.info(message)
