"""Where sweeps stand, as a terminal shows it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan

from roadmap.formatting import aligned, duration
from roadmap.runs.run_progress import in_words, reached
from roadmap.sweeps.sweep_status import FAILED, INTERRUPTED, RUNNING, PlannedRunStatus, SweepStatus, TimeLeft, alike

SHOWN = 10  # runs of a state, or sentences


def table(statuses: Sequence[SweepStatus]) -> str:
    """A row a sweep, and below what is to be said of its runs."""
    counts = [status.counts for status in statuses]
    rows = [
        [status.sweep.name, str(len(status.runs)), *map(str, count.values()), left_words(status.left)]
        for status, count in zip(statuses, counts, strict=True)
    ]
    lines = [aligned(["sweep", "runs", *counts[0], "time left"], rows)]
    for status in statuses:
        if said := [*_time(status.left), *_running(status), *_interrupted(status), *_failed(status)]:
            lines += ["", *([f"{status.sweep.name}:"] if len(statuses) > 1 else []), *said]
    return "\n".join(lines)


def left_words(left: TimeLeft) -> str:
    """``12 min (10 to 15) with 2 at work``."""
    if left.seconds == 0:
        return ""
    by = f"with {left.workers} at work" if left.workers else "on one worker; none is at work"
    if isnan(left.seconds):
        return f"unknown, {by}"
    between = "" if isnan(left.low) else f" ({duration(left.low)} to {duration(left.high)})"
    return f"{duration(left.seconds)}{between} {by}"


def _time(left: TimeLeft) -> list[str]:
    return [f"time left: {left.basis}"] if left.seconds else []


def beside(statuses: Mapping[str, int], runs_dir: str) -> str:
    """The runs that belong to no sweep."""
    counted = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return f"beside, in {runs_dir}, runs that belong to no sweep: {counted}"


def label(run: PlannedRunStatus) -> str:
    """How a run is called on screen."""
    return f"{run.plan['regime']} {run.plan['variant']} seed {run.plan['seed']}"


def listed_runs(statuses: Iterable[SweepStatus], states: Sequence[str]) -> Iterator[list[str]]:
    """State, run_id, name, folder and sentence of each run in one of the states."""
    for status in statuses:
        for run in status.runs:
            if run.state in states:
                yield [run.state, run.plan["run_id"], label(run), run.path or "", run.error or ""]


def _running(status: SweepStatus) -> list[str]:
    return _some(
        f"running: {label(run)}: {in_words(run.progress, run.plan['epochs'])}, by {run.holder}"
        for run in status.of(RUNNING)
    )


def _interrupted(status: SweepStatus) -> list[str]:
    return _some(
        f"interrupted: {label(run)}: "
        + (reached(run.progress) if run.progress else f"in its first epoch of {run.plan['epochs']}")
        for run in status.of(INTERRUPTED)
    )


def _failed(status: SweepStatus) -> list[str]:
    return _some(
        f"failed: {label(group[0])}{f' and {len(group) - 1} more alike' if group[1:] else ''}: {group[0].error}"
        for group in alike(status.of(FAILED))
    )


def _some(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    first = list(lines)
    more = len(first) - SHOWN
    return [*first[:SHOWN], *([f"{first[0].partition(':')[0]}: {more} more, see --list"] if more > 0 else [])]
