"""Trains runs, from their configs to their summaries: one, or many in turn while other processes train others.

for each run that is not finished: lock it, or come back to it after the others
load data, build network and optimizer; open the run's folder
repair and load the last checkpoint; train with everything recorded; write predictions and the final summary
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from roadmap.config.compose import Composed
from roadmap.data import open_loaders
from roadmap.data.image_dataset import ImageFileBatches
from roadmap.errors import PrunedError, RequestError, RoadmapError, StoppedError, WorkError
from roadmap.runs.evaluations import PREDICTIONS, EvaluatedImages, write_predictions
from roadmap.runs.run_folder import RunFolder, RunLock, RunLockedError, finished_runs, now
from roadmap.runtime.device import choose_device, reset_peak_memory, within_memory
from roadmap.runtime.distributed import World, init_processes, local_device, lost_process_errors
from roadmap.runtime.progress import ProgressBar
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.evaluator import PredictionCollector
from roadmap.training.packed import Branch, Outcome, Turns, check_packed, last_of
from roadmap.training.recorder import Recorder, Summary, final_results, initial_summary, recorded_errors
from roadmap.training.trainer import Callbacks, Record, Trainer

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # between two attempts to lock the runs of other processes
Pruner = Callable[[list[Record]], None]
Failures = list[tuple[str, RoadmapError]]  # label of the run, error


@dataclass(frozen=True)
class RunEnd:
    """The end of a run, by its ``summary`` or ``error``, after so many seconds in this process."""

    run_id: str
    label: str
    seconds: float
    summary: Summary | None = None
    error: RoadmapError | None = None

    def __str__(self) -> str:
        ended = f"top-1 {self.summary['top1']:.2f} %, {self.seconds:.1f} s" if self.summary else "failed"
        return f"{self.label}: {ended}"


Report = Callable[[RunEnd], None]


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


@dataclass
class Results:
    """What has become of ``total`` runs so far: the summaries of finished runs and the errors of failed ones."""

    total: int
    summaries: list[Summary]
    report: Report | None = None  # called instead of a message
    failures: Failures = field(default_factory=list)

    @property
    def done(self) -> int:
        """The number of runs that are not trained any more."""
        return len(self.summaries) + len(self.failures)

    def add(self, branch: Branch[Job], outcome: Outcome, *, first: bool) -> None:
        """Add a run. Raises its error if the others cannot go on; ``first``: no run has been trained yet."""
        job = branch.job
        if isinstance(outcome, RoadmapError):
            # a wrong setting fails the first run already, and would fail all others too
            wrong = isinstance(outcome, RequestError) and first
            if wrong or isinstance(outcome, PrunedError) or _of_this_rank_only(outcome, job):
                raise outcome
            logger.debug("traceback:", exc_info=outcome)
            self.failures.append((job.label, without_frames(outcome)))
            ended: dict[str, Any] = {"error": outcome}
        else:
            self.summaries.append(outcome)
            ended = {"summary": outcome}
        end = RunEnd(job.experiment.run_id, job.label, time.perf_counter() - branch.began, **ended)
        if self.report is not None:
            self.report(end)
        elif job.world.is_main:
            logger.info(f"[{self.done}/{self.total}] {end}")


def run_all(
    requests: Sequence[Composed],
    retries: int = 0,
    since: str | None = None,
    pruner: Pruner | None = None,
    report: Report | None = None,
) -> tuple[list[Summary], Failures]:
    """Train all runs; return the summaries of finished runs, old and new, and the errors of failed ones.

    ``packed`` runs are trained at a time. A failed one is tried again ``retries`` times. A run that another process is
    training is looked at again after all others: if it failed there after ``since`` (ISO 8601; None: now), it counts as
    failed; if its process died, it is resumed here. ``pruner`` is called before each epoch but the first, with the rows
    of all epochs so far, and raises PrunedError to end the run. ``report`` is called instead of a message when a run
    has ended, here or elsewhere. Raises PrunedError, and StoppedError as ``run_experiment`` does.
    """
    since = since or now()
    jobs = [Job.of(request) for request in requests]
    world, packed = jobs[0].world, requests[0].settings.packed
    check_packed(packed, world.size, jobs[0].experiment.logger)
    finished = world.broadcast(finished_runs([job.experiment for job in jobs]) if world.is_main else None)
    results = Results(len(jobs), [summary for summary, _ in finished.values()], report)
    waiting = [job for job in jobs if job.experiment.run_id not in finished]
    if world.is_main and finished and waiting and report is None:
        logger.info(f"{len(finished)} of {len(jobs)} runs are already finished")
    packed = max(1, min(packed, len(waiting)))
    turns: Turns[Job] = Turns(packed)

    def branches() -> Iterator[Branch[Job]]:
        for job in waiting:
            if signal := world.first_set(stop.signal):
                raise StoppedError(signal, f"{results.done} of {len(jobs)} runs")
            steps = _train_with_retries(replace(job, packed=packed), retries, since, stop, pruner)
            yield Branch(job, steps, job.device, alone=packed == 1)

    with StopRequest() as stop:
        while waiting:
            locked_elsewhere = []
            with closing(turns.outcomes(branches())) as outcomes:
                for branch, outcome in outcomes:
                    if isinstance(outcome, RunLockedError):
                        locked_elsewhere.append(branch.job)
                    else:
                        first = results.done == 0 and not turns.begun and branch.job is jobs[0]
                        results.add(branch, outcome, first=first)
            if len(locked_elsewhere) == len(waiting):
                time.sleep(POLL_SECONDS)
            waiting = locked_elsewhere
    return results.summaries, results.failures


def without_frames(error: RoadmapError) -> RoadmapError:
    """Drop what an error refers to: the frames of a failed run hold its network, optimizer and activations."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _train_with_retries(
    job: Job, retries: int, since: str, stop: StopRequest, pruner: Pruner | None
) -> Generator[None, None, Summary]:
    """Train a run by steps, up to ``retries`` times more if it fails, and not at all if it failed after ``since``."""
    # one lock for all attempts, so that no other process starts attempts of its own in between
    with locked(job):
        if failure := job.world.broadcast(_failure(job.experiment, since) if job.world.is_main else None):
            raise WorkError(failure)
        while True:
            try:
                return (yield from train_run(job, stop, pruner))[0]
            except WorkError as error:
                if retries == 0 or _of_this_rank_only(error, job):
                    raise
                retries -= 1
                if job.world.is_main:
                    logger.warning(f"{job.label} failed; trying again: {error}")


def _of_this_rank_only(error: RoadmapError, job: Job) -> bool:
    """Return whether the other processes do not know of the error, so that they cannot go on together."""
    return job.world.size > 1 and not error.on_all_ranks


def _failure(experiment: Experiment, since: str) -> str | None:
    """Return the error of a run that failed after ``since``."""
    folder = RunFolder.find(experiment)
    summary = (folder.read_summary() if folder else None) or {}
    if summary.get("status") != "failed" or (summary.get("ended") or "") < since:
        return None
    return summary.get("error") or "failed without an error message"


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
    reset_peak_memory(job.device)
    with world.collective_errors():
        loaders = open_loaders(experiment, job.device, world)
        if job.packed > 1 and isinstance(loaders.train.source, ImageFileBatches):
            raise RequestError(
                f"packed={job.packed} needs images in memory, not the files of data={experiment.data.name} "
                "(choose packed=1, or workers= for several processes)"
            )
        with within_memory("choose a smaller network"):
            trainer = build_trainer(experiment, loaders, job.device, world)
    folder = None
    with world.collective_errors():
        if world.is_main:
            folder = RunFolder.open(experiment, job.composed.logged_values, job.composed.overrides)
    folder = world.broadcast(folder)
    if world.is_main:
        share = loaders.train.share
        logger.debug(f"training on {job.device}, run folder {folder.path}")
        _log_once(
            f"batch_size {share.batch_size} = {share.processes} processes x {share.accumulation} accumulation steps "
            f"x micro_batch_size {share.micro_batch_size}"
        )
    return (yield from _fit(job, replace(trainer, stop=stop), folder, pruner)), folder


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
        with world.collective_errors():
            if world.is_main:
                checkpoints.repair()
                recorder.start(initial_summary(experiment, trainer))
        with world.collective_errors():
            _resume(trainer, checkpoints)
            if world.is_main:
                recorder.resume(trainer.state.epoch, experiment.logger)
                progress.start(trainer.state.epoch, trainer.state.updates)
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
