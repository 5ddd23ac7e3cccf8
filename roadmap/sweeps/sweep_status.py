"""Where a sweep stands: what became of each planned run, and how long the rest will take."""

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
from roadmap.sweeps.estimate import ENOUGH_RUNS, Array, estimate, shared

if TYPE_CHECKING:
    from roadmap.runs.sweep_plan import Sweep

DONE, RUNNING, INTERRUPTED, FAILED, MISSING = STATES = ("done", "running", "interrupted", "failed", "missing")
Holder = Callable[[str], str | None]
RECORD = ("status", "path", "error")  # what is asked of a run's record


@dataclass(frozen=True)
class PlannedRunStatus:
    """What became of a planned run.

    ``plan`` is its line of the plan, ``path`` its folder, ``error`` how it failed, ``holder`` the process at it.
    """

    plan: Mapping[str, Any]
    state: str
    path: str | None = None
    error: str | None = None
    holder: str | None = None
    progress: RunProgress | None = None


@dataclass(frozen=True)
class TimeLeft:
    """Seconds until the missing, interrupted and running runs are done, and between what that may lie.

    NaN where nothing was measured. ``workers`` are those at work now; 0: the time is that of one.
    """

    seconds: float
    low: float
    high: float
    workers: int
    basis: str


@dataclass(frozen=True)
class SweepStatus:
    """A sweep with each of its planned runs, in the plan's order."""

    sweep: "Sweep"
    runs: list[PlannedRunStatus]
    left: TimeLeft

    def of(self, state: str) -> list[PlannedRunStatus]:
        """The runs in one of ``STATES``."""
        return [run for run in self.runs if run.state == state]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are in each of ``STATES``."""
        counted = Counter(run.state for run in self.runs)
        return {state: counted[state] for state in STATES}


def read_records(runs_dir: str, sweeps: Sequence["Sweep"]) -> tuple[pd.DataFrame, list[str]]:
    """The table of ``load_runs`` for the runs that lie directly in ``runs_dir``, where sweeps look for theirs.

    And a sentence about each record that cannot be read.
    """
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
    """Where a sweep stands by the records of ``read_records``; ``holder`` names the process that has claimed a run_id.

    A run that a process holds is running, whatever its record says. One whose record says so and which nobody holds was
    killed: it counts as interrupted, and the sweep goes on with it when it is entered again.
    """
    records = dict(zip(runs["run_id"], zip(*(runs[name] for name in RECORD), strict=True), strict=True))
    statuses = [_run(plan, records.get(plan["run_id"]), holder) for plan in sweep.runs]
    return SweepStatus(sweep, statuses, _left(sweep, statuses, runs))


def others(sweeps: Sequence["Sweep"], runs: pd.DataFrame) -> dict[str, int]:
    """How many of the runs belong to no sweep, by the status in their records."""
    planned = {run["run_id"] for sweep in sweeps for run in sweep.runs}
    beside = runs[[run_id not in planned for run_id in runs["run_id"]]]
    return dict(beside["status"].value_counts()) if len(beside) else {}


def alike(failed: Sequence[PlannedRunStatus]) -> list[list[PlannedRunStatus]]:
    """Failed runs by their sentences, which may differ in numbers; the largest group first."""
    groups: dict[str, list[PlannedRunStatus]] = {}
    for run in failed:
        groups.setdefault(re.sub(r"\d[\w.+-]*", "0", run.error or ""), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def _run(plan: Mapping[str, Any], record: tuple[Any, ...] | None, holder: Holder) -> PlannedRunStatus:
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
        return PlannedRunStatus(plan, FAILED, path, error if isinstance(error, str) else "it failed without a word")
    return PlannedRunStatus(plan, INTERRUPTED, path, progress=progress(path, plan["epochs"]))


def _left(sweep: "Sweep", statuses: Sequence[PlannedRunStatus], runs: pd.DataFrame) -> TimeLeft:
    open_runs = [run for run in statuses if run.state in (RUNNING, INTERRUPTED, MISSING)]
    told = estimate([run.plan for run in open_runs], _measured(sweep, statuses, runs))
    workers = sum(run.state == RUNNING for run in open_runs)

    def together(seconds: Array) -> float:
        return shared(np.array(list(map(_rest, open_runs, seconds))), max(workers, 1))

    return TimeLeft(together(told.seconds), together(told.low), together(told.high), workers, told.basis)


def _rest(run: PlannedRunStatus, seconds: float) -> float:
    """What is left of a run that takes so many seconds in all; of a running one at its own pace."""
    if run.progress is None:
        return seconds
    if run.state == RUNNING:
        return max(0.0, run.progress.left - run.progress.silent)
    return seconds * (1 - run.progress.epoch / run.progress.epochs)


def _measured(sweep: "Sweep", statuses: Sequence[PlannedRunStatus], runs: pd.DataFrame) -> pd.DataFrame:
    """The runs to estimate the others from: the sweep's own if they are enough; running ones if none has finished."""
    same = runs[runs["data"] == sweep.header["data"]]
    own = same[same["run_id"].isin({run["run_id"] for run in sweep.runs})]
    if (own["status"] == "finished").sum() >= ENOUGH_RUNS:
        return own
    if (same["status"] == "finished").any():
        return same
    paces = {run.plan["run_id"]: run.progress.seconds for run in statuses if run.progress is not None}
    pace = same["run_id"].map(paces)
    return same.assign(status=np.where(pace > 0, "finished", same["status"]), train_seconds=pace * same["epochs"])
