"""Where a sweep stands: what became of each planned run, and how long the rest will take."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from roadmap.analysis.estimate import ENOUGH_RUNS, Array, estimate, shared
from roadmap.analysis.reading.runs import read_runs
from roadmap.analysis.underway import Progress, progress
from roadmap.folders.runfolder import SUMMARY

if TYPE_CHECKING:
    from roadmap.folders.plan import Sweep

DONE, RUNNING, INTERRUPTED, FAILED, MISSING = STATES = ("done", "running", "interrupted", "failed", "missing")
Holder = Callable[[str], str | None]
RECORD = ("status", "path", "error")  # what is asked of a run's record


@dataclass(frozen=True)
class RunStanding:
    """What became of a planned run.

    ``plan`` is its line of the plan, ``path`` its folder, ``error`` how it failed, ``holder`` the process at it.
    """

    plan: Mapping[str, Any]
    state: str
    path: str | None = None
    error: str | None = None
    holder: str | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Left:
    """Seconds until the missing, interrupted and running runs are done, and between what that may lie.

    NaN where nothing was measured. ``workers`` are those at work now; 0: the time is that of one.
    """

    seconds: float
    low: float
    high: float
    workers: int
    basis: str


@dataclass(frozen=True)
class Standing:
    """A sweep with each of its planned runs, in the plan's order."""

    sweep: "Sweep"
    runs: list[RunStanding]
    left: Left

    def of(self, state: str) -> list[RunStanding]:
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
    planned = {run["run_id"] for sweep in sweeps for run in sweep.runs}
    with os.scandir(runs_dir) as entries:
        folders = [
            entry.path
            for entry in sorted(entries, key=lambda entry: entry.name)
            if entry.name.rpartition("-")[2] in planned or os.path.isfile(os.path.join(entry.path, SUMMARY))
        ]
    return read_runs(folders)


def standing(sweep: "Sweep", runs: pd.DataFrame, holder: Holder) -> Standing:
    """Where a sweep stands by the records of ``read_records``; ``holder`` names the process that has claimed a run_id.

    A run that a process holds is running, whatever its record says. One whose record says so and which nobody holds was
    killed: it counts as interrupted, and the sweep goes on with it when it is entered again.
    """
    records = dict(zip(runs["run_id"], zip(*(runs[name] for name in RECORD), strict=True), strict=True))
    standings = [_run(plan, records.get(plan["run_id"]), holder) for plan in sweep.runs]
    return Standing(sweep, standings, _left(sweep, standings, runs))


def others(sweeps: Sequence["Sweep"], runs: pd.DataFrame) -> dict[str, int]:
    """How many of the runs belong to no sweep, by the status in their records."""
    planned = {run["run_id"] for sweep in sweeps for run in sweep.runs}
    beside = runs[[run_id not in planned for run_id in runs["run_id"]]]
    return dict(beside["status"].value_counts()) if len(beside) else {}


def alike(failed: Sequence[RunStanding]) -> list[list[RunStanding]]:
    """Failed runs by their sentences, which may differ in numbers; the largest group first."""
    groups: dict[str, list[RunStanding]] = {}
    for run in failed:
        groups.setdefault(re.sub(r"\d[\w.+-]*", "0", run.error or ""), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def _run(plan: Mapping[str, Any], record: tuple[Any, ...] | None, holder: Holder) -> RunStanding:
    status, path, error = record or (None, None, None)
    if status == "finished":
        return RunStanding(plan, DONE, path)
    if by := holder(plan["run_id"]):
        return RunStanding(plan, RUNNING, path, holder=by, progress=progress(path, plan["epochs"]) if path else None)
    if path is None:
        return RunStanding(plan, MISSING)
    if status == "failed":
        return RunStanding(plan, FAILED, path, error if isinstance(error, str) else "it failed without a word")
    return RunStanding(plan, INTERRUPTED, path, progress=progress(path, plan["epochs"]))


def _left(sweep: "Sweep", standings: Sequence[RunStanding], runs: pd.DataFrame) -> Left:
    open_runs = [run for run in standings if run.state in (RUNNING, INTERRUPTED, MISSING)]
    told = estimate([run.plan for run in open_runs], _measured(sweep, standings, runs))
    workers = sum(run.state == RUNNING for run in open_runs)

    def together(seconds: Array) -> float:
        return shared(np.array(list(map(_rest, open_runs, seconds))), max(workers, 1))

    return Left(together(told.seconds), together(told.low), together(told.high), workers, told.basis)


def _rest(run: RunStanding, seconds: float) -> float:
    """What is left of a run that takes so many seconds in all; of a running one at its own pace."""
    if run.progress is None:
        return seconds
    if run.state == RUNNING:
        return max(0.0, run.progress.left - run.progress.silent)
    return seconds * (1 - run.progress.epoch / run.progress.epochs)


def _measured(sweep: "Sweep", standings: Sequence[RunStanding], runs: pd.DataFrame) -> pd.DataFrame:
    """The runs to estimate the others from: the sweep's own if they are enough; running ones if none has finished."""
    same = runs[runs["data"] == sweep.header["data"]]
    own = same[same["run_id"].isin({run["run_id"] for run in sweep.runs})]
    if (own["status"] == "finished").sum() >= ENOUGH_RUNS:
        return own
    if (same["status"] == "finished").any():
        return same
    paces = {run.plan["run_id"]: run.progress.seconds for run in standings if run.progress is not None}
    pace = same["run_id"].map(paces)
    return same.assign(status=np.where(pace > 0, "finished", same["status"]), train_seconds=pace * same["epochs"])
