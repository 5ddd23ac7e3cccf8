"""One run from what is asked for to its summary: opens, resumes, trains, logs, in one process or in many."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch

from roadmap.config.compose import Composed
from roadmap.data import Loaders, open_loaders
from roadmap.errors import PrunedError, RequestError, RoadmapError, StoppedError, WorkError
from roadmap.runs.run_folder import RunFolder, now
from roadmap.runs.run_lock import RunLock
from roadmap.runtime.device import choose_device, is_out_of_memory, within_memory
from roadmap.runtime.distributed import World, join, local_device, loss_of_a_process
from roadmap.runtime.progress import ProgressBar
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.tracking.loggers import MetricsLogger, NoLogger, open_logger
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.prediction_writer import PredictionWriter, predict_again
from roadmap.training.summary import Summary, opening, results
from roadmap.training.trainer import Record, Trainer

logger = logging.getLogger(__name__)

Judge = Callable[[list[Record]], None]


def execute(
    composed: Composed, stop: StopRequest | None = None, judge: Judge | None = None
) -> tuple[Summary, RunFolder]:
    """Train what a config asks for, or what is left of it; a finished run is returned as it is.

    ``stop`` is where the trainer looks for a request to stop; None: signals. ``judge`` is shown the rows of the epochs
    so far after each but the last, and raises PrunedError where the run is not worth the others. Started by torchrun,
    every process calls this, and the first alone writes. Raises RequestError before anything is written where the
    request does not fit. Raises HeldError where another process is at this run, and WorkError, StoppedError,
    PrunedError and KeyboardInterrupt after the summary says so: the same request goes on from the last checkpoint.
    """
    experiment = composed.experiment()
    device = local_device(choose_device(experiment.settings.device))
    world = join(device)
    kept = _kept(experiment, device, world)
    if kept is not None:
        return kept
    with claimed(experiment, world):
        return execute_claimed(composed, stop, judge)


def execute_claimed(
    composed: Composed, stop: StopRequest | None = None, judge: Judge | None = None
) -> tuple[Summary, RunFolder]:
    """``execute`` for a run that is ``claimed`` already."""
    experiment = composed.experiment()
    device = local_device(choose_device(experiment.settings.device))
    world = join(device)
    # whoever had it until now may have finished it
    kept = _kept(experiment, device, world)
    if kept is not None:
        return kept
    with stop or StopRequest() as stop:
        with world.together():
            loaders = open_loaders(experiment, device, world)
            with within_memory("choose a smaller network"):
                trainer = build_trainer(experiment, loaders, device, world, stop)
        folder = None
        with world.together():
            if world.first:
                folder = RunFolder.open(experiment, composed.values, composed.overrides)
        folder = world.from_first(folder)
        if world.first:
            logger.debug(f"training on {device}, run folder {folder.path}")
        return _train(experiment, loaders, trainer, folder, judge), folder


@contextmanager
def claimed(experiment: Experiment, world: World) -> Iterator[None]:
    """While the run is this process's, or all these processes'; HeldError where it is another's."""
    claim = RunLock(experiment.settings.runs_dir, experiment.run_id)
    with world.together():
        if world.first:
            claim.take()
    end = claim.free
    try:
        yield
    except RequestError:
        end = claim.withdraw
        raise
    finally:
        if world.first:
            end()


def _kept(experiment: Experiment, device: torch.device, world: World) -> tuple[Summary, RunFolder] | None:
    """A finished run as it is, with the predictions that it was asked for; None where there is work to do."""
    finished = world.from_first(_finished(experiment) if world.first else None)
    if finished is not None and experiment.settings.save_predictions:
        summary, folder = finished
        predict_again(experiment, folder, summary["top1"], device, world)
    return finished


def _finished(experiment: Experiment) -> tuple[Summary, RunFolder] | None:
    folder = RunFolder.find(experiment)
    if folder is None or experiment.settings.resume != "auto":
        return None
    summary = folder.read_summary()
    return (summary, folder) if summary is not None and summary.get("status") == "finished" else None


def _train(
    experiment: Experiment, loaders: Loaders, trainer: Trainer, folder: RunFolder, judge: Judge | None
) -> Summary:
    world, rows = trainer.world, []
    checkpoints = Checkpoints(folder.checkpoints, experiment.run_id)
    if world.first:
        say_batch(loaders)
    progress = ProgressBar(run_label(experiment), experiment.epochs, shown=world.first)
    with _status(folder, world) as status, loss_of_a_process(), progress:
        with world.together():
            if world.first:
                checkpoints.mend()
                before = folder.read_summary() or {}
                summary = opening(experiment, loaders, trainer)
                summary["started"] = before.get("started") or summary["started"]
                folder.write_summary(summary)
        with world.together():
            _resume(trainer, checkpoints)
            if world.first:
                rows = folder.keep_metrics(trainer.epochs_done)
                status.logger = open_logger(experiment.logger, summary, folder.path)
                if judge is not None and 0 < trainer.epochs_done < trainer.epochs:
                    judge(rows)
        if world.first:
            trainer.save, trainer.tell = checkpoints.save, progress.tell

            def record(row: Record) -> None:
                rows.append(row)
                folder.append_metrics(row)
                status.logger.log(row)
                progress.show(row)

            trainer.record = record
            if judge is not None:
                trainer.judge = lambda row: judge(rows)
            progress.start(trainer.epochs_done, trainer.updates_done)
        answers = PredictionWriter() if experiment.settings.save_predictions else None
        if answers is not None:
            trainer.notes = answers
            if trainer.epochs_done == trainer.epochs:  # it was stopped after its last evaluation
                trainer.evaluate(trainer.network, answers)
        trainer.fit()
        if answers is not None:
            answers.save(experiment, trainer, folder, rows[-1]["top1"] if world.first else 0.0)
        with world.together():
            if world.first:
                summary = folder.update_summary(**results(rows, trainer))
                status.logger.close(summary)
        return world.from_first(summary if world.first else None)


def _resume(trainer: Trainer, checkpoints: Checkpoints) -> None:
    state = checkpoints.load(trainer.device)
    if state is not None:
        trainer.load_state(state)
    place = (trainer.epochs_done, trainer.updates_done)
    if trainer.world.from_first(place) != place:
        raise WorkError(
            f"process {trainer.world.rank} sees other checkpoints than the first; put runs_dir on a disk "
            "that all machines share"
        )


def run_label(experiment: Experiment) -> str:
    """How a run is called on screen."""
    return f"{experiment.regime} {experiment.variant} seed {experiment.seed}"


_said: set[str] = set()


def say_batch(loaders: Loaders) -> None:
    """How the batch is made up, once in a process that trains many runs alike."""
    share = loaders.train.share
    text = (
        f"batch_size {share.batch_size} = {share.processes} processes x {share.accumulation} accumulation steps "
        f"x micro_batch_size {share.micro_batch_size}"
    )
    if text not in _said:
        _said.add(text)
        logger.info(text)


@dataclass
class _Status:
    """Who is told how a run ended, besides its folder."""

    logger: MetricsLogger = field(default_factory=NoLogger)


@contextmanager
def _status(folder: RunFolder, world: World) -> Iterator[_Status]:
    """Leave in the summary how a run ended, if it did not end well, and close its logger with that."""
    status = _Status()
    try:
        yield status
    except (KeyboardInterrupt, StoppedError):
        _leave_word(folder, world, status.logger, status="interrupted", ended=now())
        raise
    except PrunedError as pruned:
        _leave_word(folder, world, status.logger, status="interrupted", ended=now(), error=str(pruned))
        raise
    except Exception as error:
        sentence = str(error) if isinstance(error, RoadmapError) else f"{type(error).__name__}: {error}".split("\n")[0]
        if is_out_of_memory(error):
            sentence = "the device ran out of memory; choose a smaller micro_batch_size"
        _leave_word(folder, world, status.logger, status="failed", ended=now(), error=sentence)
        if isinstance(error, RoadmapError):
            raise
        raise WorkError(sentence) from error


def _leave_word(folder: RunFolder, world: World, logger: MetricsLogger, **changes: str) -> None:
    """Change the summary if it can be written at all: the error on its way says more than that it cannot."""
    if world.first:
        summary = (folder.read_summary() or {}) | changes
        with suppress(WorkError):
            folder.write_summary(summary)
        logger.close(summary)
