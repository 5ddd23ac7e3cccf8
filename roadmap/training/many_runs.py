"""Trains many runs in turn, while other processes may train others of them.

for each run that is not finished: lock it and train it, or come back to it after the others
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from roadmap.config.compose import Composed
from roadmap.errors import PrunedError, RequestError, RoadmapError, StoppedError, WorkError
from roadmap.runs.run_folder import RunFolder, RunLockedError, finished_runs, now
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.packed import Branch, Outcome, Turns, check_packed
from roadmap.training.recorder import Summary
from roadmap.training.run import Job, Pruner, locked, train_run

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # between two attempts to lock the runs of other processes
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
    folder = RunFolder.find(experiment)
    summary = (folder.read_summary() if folder else None) or {}
    if summary.get("status") != "failed" or (summary.get("ended") or "") < since:
        return None
    return summary.get("error") or "failed without an error message"
