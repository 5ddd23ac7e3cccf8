"""The status of a sweep: the state of each planned run, and the estimated time left."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from roadmap.runs.reading import read_runs
from roadmap.runs.records import exported_part
from roadmap.runs.run_folder import SUMMARY
from roadmap.runs.run_progress import RunProgress, progress
from roadmap.sweeps.estimate import MIN_RUNS, Array, estimate, parallel_seconds

if TYPE_CHECKING:
    from roadmap.runs.sweep_plan import Sweep

DONE, RUNNING, INTERRUPTED, FAILED, MISSING = STATES = ("done", "running", "interrupted", "failed", "missing")
Holder = Callable[[str], str | None]
RECORD = ("status", "path", "error")  # columns used of the runs' table


@dataclass(frozen=True)
class PlannedRunStatus:
    """The state of a planned run.

    ``plan`` is its line of the plan, ``path`` its folder, ``error`` the error of a failed run, ``holder`` the process
    that is running it.
    """

    plan: Mapping[str, Any]
    state: str
    path: str | None = None
    error: str | None = None
    holder: str | None = None
    progress: RunProgress | None = None


@dataclass(frozen=True)
class TimeLeft:
    """Estimated seconds until all runs are done, with a range; NaN if unknown.

    ``workers`` is the number of runs in progress; with 0 the time is for one worker.
    """

    seconds: float
    low: float
    high: float
    workers: int
    basis: str


@dataclass(frozen=True)
class SweepStatus:
    """A sweep with the state of each planned run, in the plan's order."""

    sweep: "Sweep"
    runs: list[PlannedRunStatus]
    left: TimeLeft

    def of(self, state: str) -> list[PlannedRunStatus]:
        """Return the runs in one of ``STATES``."""
        return [run for run in self.runs if run.state == state]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of runs in each of ``STATES``."""
        counted = Counter(run.state for run in self.runs)
        return {state: counted[state] for state in STATES}


def read_records(runs_dir: str, sweeps: Sequence["Sweep"]) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of the runs directly in ``runs_dir``, and a sentence about each record that cannot be read."""
    if exported_part(runs_dir):
        return read_runs(runs_dir)
    planned = {run["run_id"] for sweep in sweeps for run in sweep.runs}
    with os.scandir(runs_dir) as entries:
        folders = [
            entry.path
            for entry in sorted(entries, key=lambda entry: entry.name)
            if entry.name.rpartition("-")[2] in planned or os.path.isfile(os.path.join(entry.path, SUMMARY))
        ]
    return read_runs(folders)


def status_of(sweep: "Sweep", runs: pd.DataFrame, holder: Holder) -> SweepStatus:
    """Return the status of a sweep from the records of ``read_records``.

    ``holder`` names the process that holds the lock of a run_id. A locked run is running. A run that is recorded as
    running but not locked was killed and counts as interrupted.
    """
    records = dict(zip(runs["run_id"], zip(*(runs[name] for name in RECORD), strict=True), strict=True))
    statuses = [_run_status(plan, records.get(plan["run_id"]), holder) for plan in sweep.runs]
    return SweepStatus(sweep, statuses, _time_left(sweep, statuses, runs))


def unplanned_counts(sweeps: Sequence["Sweep"], runs: pd.DataFrame) -> dict[str, int]:
    """Return the number of runs that belong to no sweep, by status."""
    planned = {run["run_id"] for sweep in sweeps for run in sweep.runs}
    unplanned = runs[[run_id not in planned for run_id in runs["run_id"]]]
    return dict(unplanned["status"].value_counts()) if len(unplanned) else {}


def grouped_by_error(failed: Sequence[PlannedRunStatus]) -> list[list[PlannedRunStatus]]:
    """Return failed runs grouped by their error, ignoring numbers; the largest group first."""
    groups: dict[str, list[PlannedRunStatus]] = {}
    for run in failed:
        groups.setdefault(re.sub(r"\d[\w.+-]*", "0", run.error or ""), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def _run_status(plan: Mapping[str, Any], record: tuple[Any, ...] | None, holder: Holder) -> PlannedRunStatus:
    status, path, error = record or (None, None, None)
    if status == "finished":
        return PlannedRunStatus(plan, DONE, path)
    if by := holder(plan["run_id"]):
        return PlannedRunStatus(
            plan, RUNNING, path, holder=by, progress=progress(path, plan["epochs"]) if path else None
        )
    if path is None:
        return PlannedRunStatus(plan, MISSING)
    if status == "failed":
        return PlannedRunStatus(
            plan, FAILED, path, error if isinstance(error, str) else "failed without an error message"
        )
    return PlannedRunStatus(plan, INTERRUPTED, path, progress=progress(path, plan["epochs"]))


def _time_left(sweep: "Sweep", statuses: Sequence[PlannedRunStatus], runs: pd.DataFrame) -> TimeLeft:
    open_runs = [run for run in statuses if run.state in (RUNNING, INTERRUPTED, MISSING)]
    estimated = estimate([run.plan for run in open_runs], _measured(sweep, statuses, runs))
    workers = sum(run.state == RUNNING for run in open_runs)

    def total(seconds: Array) -> float:
        return parallel_seconds(np.array(list(map(_remaining, open_runs, seconds))), max(workers, 1))

    return TimeLeft(total(estimated.seconds), total(estimated.low), total(estimated.high), workers, estimated.basis)


def _remaining(run: PlannedRunStatus, seconds: float) -> float:
    """Return the remaining seconds of a run of ``seconds`` in total; a running one is measured by its own speed."""
    if run.progress is None:
        return seconds
    if run.state == RUNNING:
        return max(0.0, run.progress.left - run.progress.silent)
    return seconds * (1 - run.progress.epoch / run.progress.epochs)


def _measured(sweep: "Sweep", statuses: Sequence[PlannedRunStatus], runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs to estimate from: the sweep's own if there are enough, else all on the same data."""
    same = runs[runs["data"] == sweep.header["data"]]
    own = same[same["run_id"].isin({run["run_id"] for run in sweep.runs})]
    if (own["status"] == "finished").sum() >= MIN_RUNS:
        return own
    if (same["status"] == "finished").any():
        return same
    paces = {run.plan["run_id"]: run.progress.seconds for run in statuses if run.progress is not None}
    pace = same["run_id"].map(paces)
    return same.assign(status=np.where(pace > 0, "finished", same["status"]), train_seconds=pace * same["epochs"])
