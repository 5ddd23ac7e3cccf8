"""Many runs one after another, beside other processes that may be at the same ones: each run is trained once."""

import logging
import time
from collections.abc import Sequence

from roadmap.config.compose import Composed
from roadmap.errors import RequestError, RoadmapError, StoppedError, WorkError
from roadmap.runs.run_folder import RunFolder, now, run_folders
from roadmap.runs.run_lock import RunLockedError
from roadmap.runtime.device import choose_device
from roadmap.runtime.distributed import World, join, launched, local_device
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.run import Judge, claimed, execute_claimed, run_label
from roadmap.training.summary import Summary

logger = logging.getLogger(__name__)

POLL = 2.0  # seconds between two looks at runs that others have
Failures = list[tuple[str, RoadmapError]]


def carry_out(
    requests: Sequence[Composed], retries: int = 0, since: str | None = None, judge: Judge | None = None
) -> tuple[list[Summary], Failures]:
    """The summaries of runs that finished, now or before, and what became of those that did not.

    A failed run is tried again ``retries`` times. One that another process has is left to it, and looked at again at
    the end: if it failed there after ``since`` (ISO 8601; None: now), it is not tried again, if its process died, it is
    gone on with here. ``judge`` is ``execute``'s. Raises StoppedError and PrunedError as it does, with nothing lost.
    """
    since, total = since or now(), len(requests)
    world = join(local_device(choose_device(requests[0].experiment().settings.device)))
    finished = world.from_first(_finished(requests) if world.first else None)
    summaries: list[Summary] = list(finished.values())
    failures: Failures = []
    waiting = [request for request in requests if request.experiment().run_id not in finished]
    if world.first and finished and waiting:
        logger.info(f"{len(finished)} of {total} runs are already finished")
    with StopRequest() as stop:
        while waiting:
            held = []
            for request in waiting:
                _stop_if_asked(stop, world, f"{len(summaries) + len(failures)} of {total} runs")
                label = run_label(request.experiment())
                began = time.perf_counter()
                try:
                    summary = _attempt(request, retries, since, world, stop, judge)
                except RunLockedError:
                    held.append(request)
                    continue
                except (WorkError, RequestError) as error:
                    # an error of this process alone has left the others without it: there is no going on together
                    alone = world.size > 1 and not error.everywhere
                    # what is wrong with the first run is wrong with the request, and else with that run
                    if alone or (isinstance(error, RequestError) and not (summaries or failures)):
                        raise
                    failures.append((label, error))
                    outcome = "failed"
                else:
                    summaries.append(summary)
                    outcome = f"top-1 {summary['top1']:.2f} %, {time.perf_counter() - began:.1f} s"
                if world.first:
                    done = len(summaries) + len(failures)
                    logger.info(f"[{done}/{total}] {label}: {outcome}")
            if len(held) == len(waiting):
                time.sleep(POLL)
            waiting = held
    return summaries, failures


def check_all_done(failures: Failures, total: int) -> None:
    """Name the runs that failed. Raises WorkError if there are any."""
    if not failures:
        return
    if launched().first:
        for label, failure in failures:
            logger.error(f"failed: {label}: {failure}")
    error = WorkError(f"{len(failures)} of {total} runs failed; the same command tries them again")
    error.everywhere = True
    raise error


def _finished(requests: Sequence[Composed]) -> dict[str, Summary]:
    """The summaries of runs that need no work, by run_id; one look at the folder for all of them."""
    settings = requests[0].experiment().settings
    if settings.resume != "auto" or settings.save_predictions:
        return {}
    folders = run_folders(settings.runs_dir)
    found = {}
    for request in requests:
        run_id = request.experiment().run_id
        if run_id in folders and (summary := folders[run_id].read_summary() or {}).get("status") == "finished":
            found[run_id] = summary
    return found


def _stop_if_asked(stop: StopRequest, world: World, place: str) -> None:
    """Between two runs, as the trainer does between two updates. Raises StoppedError."""
    if by := world.any_of(stop.signal):
        raise StoppedError(by, place)


def _attempt(
    request: Composed, retries: int, since: str, world: World, stop: StopRequest, judge: Judge | None
) -> Summary:
    """Train a run, again where it fails; what another process has tried after ``since`` is taken as it is."""
    experiment = request.experiment()
    # held between two attempts too, so that no other process has attempts of its own there
    with claimed(experiment, world):
        if failure := world.from_first(_failure(experiment, since) if world.first else None):
            raise WorkError(failure)
        for _ in range(retries):
            try:
                return execute_claimed(request, stop, judge)[0]
            except WorkError as error:
                # an error of this process alone has left the others without it: there is no going on together
                if world.size > 1 and not error.everywhere:
                    raise
                if world.first:
                    logger.warning(f"{run_label(experiment)} failed and is tried again: {error}")
        return execute_claimed(request, stop, judge)[0]


def _failure(experiment: Experiment, since: str) -> str | None:
    """With what a run failed after ``since``."""
    folder = RunFolder.find(experiment)
    summary = folder.read_summary() if folder else None
    if summary is None or summary.get("status") != "failed" or (summary.get("ended") or "") < since:
        return None
    return summary.get("error") or "it failed without a word"
