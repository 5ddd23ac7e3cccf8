"""Trains a run, from its config to its summary.

lock it; load data, build network and optimizer; open the run's folder
repair and load the last checkpoint; train with everything recorded; write predictions and the final summary
"""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch

from roadmap.config.compose import Composed
from roadmap.data import open_loaders
from roadmap.data.image_dataset import ImageFileBatches
from roadmap.errors import RequestError, WorkError
from roadmap.runs.evaluations import PREDICTIONS, EvaluatedImages, write_predictions
from roadmap.runs.run_folder import RunFolder, RunLock, finished_runs
from roadmap.runtime.device import choose_device, reset_peak_memory, within_memory
from roadmap.runtime.distributed import World, init_processes, local_device, lost_process_errors
from roadmap.runtime.progress import ProgressBar
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.evaluator import PredictionCollector
from roadmap.training.packed import last_of
from roadmap.training.recorder import Recorder, Summary, final_results, initial_summary, recorded_errors
from roadmap.training.trainer import Callbacks, Record, Trainer

logger = logging.getLogger(__name__)

Pruner = Callable[[list[Record]], None]


@dataclass(frozen=True)
class Job:
    """A run to train, the device and processes that train it, and the number of runs that they train at a time."""

    composed: Composed
    experiment: Experiment
    device: torch.device
    world: World
    packed: int = 1

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


def run_experiment(composed: Composed) -> tuple[Summary, RunFolder]:
    """Train a config, or what remains of it; return the final summary and the run's folder.

    With torchrun every process calls this function. Raises RequestError, with nothing written, if the config is not
    valid; RunLockedError if another process is training this run; WorkError, StoppedError or KeyboardInterrupt after
    recording it in the summary: the same call then resumes from the last checkpoint.
    """
    job = Job.of(composed)
    with locked(job), StopRequest() as stop:
        return last_of(train_run(job, stop))


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


def train_run(
    job: Job, stop: StopRequest, pruner: Pruner | None = None
) -> Generator[None, None, tuple[Summary, RunFolder]]:
    """Train a run whose lock is held by steps, unless it is finished; return its final summary and its folder."""
    experiment, world = job.experiment, job.world
    found = world.broadcast(finished_runs([experiment]).get(experiment.run_id) if world.is_main else None)
    if found is not None:
        return found
    trainer = _load_data_and_build(job, stop)
    folder = None
    with world.collective_errors():
        if world.is_main:
            folder = RunFolder.open(experiment, job.composed.logged_values, job.composed.overrides)
    folder = world.broadcast(folder)
    if world.is_main:
        share = trainer.loaders.train.share
        logger.debug(f"training on {job.device}, run folder {folder.path}")
        _log_once(
            f"batch_size {share.batch_size} = {share.processes} processes x {share.accumulation} accumulation steps "
            f"x micro_batch_size {share.micro_batch_size}"
        )
    return (yield from _fit(job, trainer, folder, pruner)), folder


def _load_data_and_build(job: Job, stop: StopRequest) -> Trainer:
    """Return the run's trainer. Raises RequestError if its data, network and settings do not fit each other."""
    experiment = job.experiment
    reset_peak_memory(job.device)
    with job.world.collective_errors():
        loaders = open_loaders(experiment, job.device, job.world)
        if job.packed > 1 and isinstance(loaders.train.source, ImageFileBatches):
            raise RequestError(
                f"packed={job.packed} needs images in memory, not the files of data={experiment.data.name} "
                "(choose packed=1, or workers= for several processes)"
            )
        with within_memory("choose a smaller network"):
            return replace(build_trainer(experiment, loaders, job.device, job.world, alone=job.packed == 1), stop=stop)


def _fit(job: Job, trainer: Trainer, folder: RunFolder, pruner: Pruner | None) -> Generator[None, None, Summary]:
    """Resume a run and train it to its end, with everything recorded in its folder."""
    experiment, world = job.experiment, job.world
    checkpoints = Checkpoints(folder.checkpoints, experiment.run_id)
    progress = ProgressBar(job.label, experiment.epochs, shown=world.is_main)
    recorder = Recorder(folder, progress, world.is_main, job.packed)
    predictions = PredictionCollector() if experiment.settings.save_predictions else None
    trainer.callbacks = Callbacks(predictions=predictions)
    if world.is_main:
        trainer.callbacks = Callbacks(
            record=recorder.record,
            save=checkpoints.save,
            wait=checkpoints.wait,
            pruner=lambda: pruner(recorder.rows) if pruner else None,
            on_step=progress.on_step,
            predictions=predictions,
        )
    with recorded_errors(recorder), lost_process_errors(), progress, checkpoints:
        _start_or_resume(experiment, trainer, checkpoints, recorder)
        if predictions and trainer.state.epoch == experiment.epochs:  # stopped after the last evaluation
            trainer.evaluate(predictions)
        yield from trainer.steps()
        if predictions:
            _save_predictions(job, trainer, predictions, folder)
        summary = None
        with world.collective_errors():
            if world.is_main:
                summary = recorder.finish(final_results(recorder.rows, trainer))
        return world.broadcast(summary)


def _start_or_resume(experiment: Experiment, trainer: Trainer, checkpoints: Checkpoints, recorder: Recorder) -> None:
    """Record the start of a run, and load its last checkpoint if there is one."""
    world = trainer.world
    with world.collective_errors():
        if world.is_main:
            checkpoints.repair()
            recorder.start(initial_summary(experiment, trainer))
    with world.collective_errors():
        _resume(trainer, checkpoints)
        if world.is_main:
            state = trainer.state
            recorder.resume(state.epoch, experiment.logger)
            recorder.progress.start(state.epoch, state.updates)


def _save_predictions(job: Job, trainer: Trainer, predictions: PredictionCollector, folder: RunFolder) -> None:
    experiment, source = job.experiment, trainer.loaders.val.source
    with job.world.collective_errors():
        digest = source.digest() if job.world.is_main else ""
    recipe, size = experiment.recipe, experiment.image_size
    images = EvaluatedImages(experiment.data.name, digest, size, recipe.eval_crop_ratio, (), recipe.eval_resize)
    gathered = predictions.gathered(images, job.world)
    with job.world.collective_errors():
        if job.world.is_main:
            write_predictions(folder.path / PREDICTIONS, gathered)


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


@cache
def _log_once(message: str) -> None:
    """Log a message unless this process, which may train many runs, has logged it before."""
    logger.info(message)
