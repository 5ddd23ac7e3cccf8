"""The status of sweeps as text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan

from roadmap.formatting import aligned, duration
from roadmap.runs.run_progress import in_words, reached
from roadmap.sweeps.estimate import time_range
from roadmap.sweeps.sweep_status import (
    FAILED,
    INTERRUPTED,
    RUNNING,
    PlannedRunStatus,
    SweepStatus,
    TimeLeft,
    grouped_by_error,
)

SHOWN = 10  # runs of a state


def table(statuses: Sequence[SweepStatus]) -> str:
    """Return a table with a row per sweep, followed by lines about its runs."""
    counts = [status.counts for status in statuses]
    rows = [
        [status.sweep.name, str(len(status.runs)), *map(str, count.values()), left_words(status.left)]
        for status, count in zip(statuses, counts, strict=True)
    ]
    lines = [aligned(["sweep", "runs", *counts[0], "time left"], rows)]
    for status in statuses:
        if details := [*_time(status.left), *_running(status), *_interrupted(status), *_failed(status)]:
            lines += ["", *([f"{status.sweep.name}:"] if len(statuses) > 1 else []), *details]
    return "\n".join(lines)


def left_words(left: TimeLeft) -> str:
    """Return the time left as text: ``12 min (10 min to 15 min) with 2 running``."""
    if left.seconds == 0:
        return ""
    by = f"with {left.workers} running" if left.workers else "on one worker (none running)"
    if isnan(left.seconds):
        return f"unknown, {by}"
    return f"{duration(left.seconds)}{time_range(left.low, left.high)} {by}"


def _time(left: TimeLeft) -> list[str]:
    return [f"time left: {left.basis}"] if left.seconds else []


def unplanned_line(statuses: Mapping[str, int], runs_dir: str) -> str:
    """Return a line about the runs that belong to no sweep."""
    counted = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return f"runs in {runs_dir} that belong to no sweep: {counted}"


def label(run: PlannedRunStatus) -> str:
    """Return the display name of a run."""
    return f"{run.plan['regime']} {run.plan['variant']} seed {run.plan['seed']}"


def listed_runs(statuses: Iterable[SweepStatus], states: Sequence[str]) -> Iterator[list[str]]:
    """Yield state, run_id, name, folder and error of each run in one of the states."""
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
        + (reached(run.progress) if run.progress else f"in epoch 1 of {run.plan['epochs']}")
        for run in status.of(INTERRUPTED)
    )


def _failed(status: SweepStatus) -> list[str]:
    return _some(
        f"failed: {label(group[0])}{f' and {len(group) - 1} more like it' if group[1:] else ''}: {group[0].error}"
        for group in grouped_by_error(status.of(FAILED))
    )


def _some(lines: Iterable[str]) -> list[str]:
    """Return the first lines and the number of others."""
    first = list(lines)
    more = len(first) - SHOWN
    return [*first[:SHOWN], *([f"{first[0].partition(':')[0]}: {more} more, see --list"] if more > 0 else [])]
