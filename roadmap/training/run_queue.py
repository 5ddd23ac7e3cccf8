"""Trains many runs one after the other; several processes may share the work, since each run has a lock."""

import logging
import time
from collections.abc import Sequence

from roadmap.config.compose import Composed
from roadmap.errors import RequestError, RoadmapError, StoppedError, WorkError
from roadmap.runs.run_folder import RunFolder, RunLockedError, now, run_folders
from roadmap.runtime.distributed import world_from_env
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.run import Job, Pruner, locked, run_locked
from roadmap.training.summary import Summary

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # between two attempts to lock the runs of other processes
Failures = list[tuple[str, RoadmapError]]  # label of the run, error


def run_all(
    requests: Sequence[Composed], retries: int = 0, since: str | None = None, pruner: Pruner | None = None
) -> tuple[list[Summary], Failures]:
    """Train all runs; return the summaries of finished runs, old and new, and the errors of failed ones.

    A failed run is tried again ``retries`` times. A run that another process is training is looked at again after all
    others: if it failed there after ``since`` (ISO 8601; None: now), it counts as failed; if its process died, it is
    resumed here. ``pruner`` is passed to ``run_experiment``. Raises StoppedError and PrunedError as that does.
    """
    since = since or now()
    jobs = [Job.of(request) for request in requests]
    world, total = jobs[0].world, len(jobs)
    finished = world.broadcast(_finished(jobs) if world.is_main else None)
    summaries: list[Summary] = list(finished.values())
    failures: Failures = []
    waiting = [job for job in jobs if job.experiment.run_id not in finished]
    if world.is_main and finished and waiting:
        logger.info(f"{len(finished)} of {total} runs are already finished")
    with StopRequest() as stop:
        while waiting:
            locked_elsewhere = []
            for job in waiting:
                done = len(summaries) + len(failures)
                if signal := world.first_set(stop.signal):
                    raise StoppedError(signal, f"{done} of {total} runs")
                began = time.perf_counter()
                try:
                    summary = _run_with_retries(job, retries, since, stop, pruner)
                except RunLockedError:
                    locked_elsewhere.append(job)
                    continue
                except (WorkError, RequestError) as error:
                    # a wrong setting fails the first run already, and would fail all others too
                    if _of_this_rank_only(error, job) or (isinstance(error, RequestError) and done == 0):
                        raise
                    failures.append((job.label, error))
                    outcome = "failed"
                else:
                    summaries.append(summary)
                    outcome = f"top-1 {summary['top1']:.2f} %, {time.perf_counter() - began:.1f} s"
                if world.is_main:
                    logger.info(f"[{done + 1}/{total}] {job.label}: {outcome}")
            if len(locked_elsewhere) == len(waiting):
                time.sleep(POLL_SECONDS)
            waiting = locked_elsewhere
    return summaries, failures


def raise_failures(failures: Failures, total: int) -> None:
    """Log the runs that failed. Raises WorkError if there are any."""
    if not failures:
        return
    if world_from_env().is_main:
        for label, failure in failures:
            logger.error(f"failed: {label}: {failure}")
    error = WorkError(f"{len(failures)} of {total} runs failed; the same command tries them again")
    error.on_all_ranks = True
    raise error


def _finished(jobs: Sequence[Job]) -> dict[str, Summary]:
    """Return the summaries of runs that are finished, by run_id; lists ``runs_dir`` once."""
    settings = jobs[0].experiment.settings
    if settings.resume != "auto" or settings.save_predictions:
        return {}
    folders = run_folders(settings.runs_dir)
    run_ids = [job.experiment.run_id for job in jobs]
    summaries = {run_id: folders[run_id].read_summary() or {} for run_id in run_ids if run_id in folders}
    return {run_id: summary for run_id, summary in summaries.items() if summary.get("status") == "finished"}


def _run_with_retries(job: Job, retries: int, since: str, stop: StopRequest, pruner: Pruner | None) -> Summary:
    """Train a run, up to ``retries`` times more if it fails, and not at all if it failed after ``since``."""
    # one lock for all attempts, so that no other process starts attempts of its own in between
    with locked(job):
        if failure := job.world.broadcast(_failure(job.experiment, since) if job.world.is_main else None):
            raise WorkError(failure)
        for _ in range(retries):
            try:
                return run_locked(job, stop, pruner)[0]
            except WorkError as error:
                if _of_this_rank_only(error, job):
                    raise
                if job.world.is_main:
                    logger.warning(f"{job.label} failed; trying again: {error}")
        return run_locked(job, stop, pruner)[0]


def _of_this_rank_only(error: RoadmapError, job: Job) -> bool:
    """Return whether the other processes do not know of the error, so that they cannot go on together."""
    return job.world.size > 1 and not error.on_all_ranks


def _failure(experiment: Experiment, since: str) -> str | None:
    """Return the error of a run that failed after ``since``."""
    folder = RunFolder.find(experiment)
    summary = folder.read_summary() if folder else None
    if summary is None or summary.get("status") != "failed" or (summary.get("ended") or "") < since:
        return None
    return summary.get("error") or "failed without an error message"
