"""``roadmap status``: the state of each planned run of a sweep, and the estimated time left."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadmap.cli.arguments import Parser, folders_and_overrides
from roadmap.errors import RequestError
from roadmap.formatting import aligned, duration, listed, printable
from roadmap.runs.reading import RunProgress, in_words, progress, read_runs
from roadmap.runs.records import exported_part, is_file, is_place
from roadmap.runs.run_folder import SUMMARY, RunLock
from roadmap.runs.sweep_plan import HEADER, Sweep, read_sweep, sweep_folders

logger = logging.getLogger(__name__)

STATES = ("done", "running", "interrupted", "failed", "missing")
STATE_OF_STATUS = {None: "missing", "failed": "failed", "finished": "done"}
SHOWN = 10  # runs of a state


@dataclass(frozen=True)
class PlannedRunStatus:
    """The state of a planned run.

    ``plan`` is its line of the plan, ``path`` its folder, ``holder`` the process that is running it, ``seconds_left``
    the estimated time until it is done: 0 if it is done or failed, NaN if unknown.
    """

    plan: Mapping[str, Any]
    state: str
    path: str | None
    error: str | None
    holder: str | None
    progress: RunProgress | None
    seconds_left: float

    @property
    def name(self) -> str:
        return f"{self.plan['regime']} {self.plan['variant']} seed {self.plan['seed']}"


@dataclass(frozen=True)
class SweepStatus:
    """A sweep with the state of each planned run, in the plan's order."""

    sweep: Sweep
    runs: list[PlannedRunStatus]

    @property
    def counts(self) -> dict[str, int]:
        """The number of runs in each of ``STATES``."""
        counted = Counter(run.state for run in self.runs)
        return {state: counted[state] for state in STATES}

    def seconds_left(self, workers: int) -> float:
        """Return the estimated time until all runs are done, at least that of the longest; NaN if unknown."""
        seconds = np.array([run.seconds_left for run in self.runs])
        return float(np.maximum(seconds.sum() / workers, seconds.max(initial=0.0)))


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap status", description="show the status of sweeps and the time left")
    parser.add_argument("places", nargs="*", metavar="FOLDER", help="folders of runs or of a sweep (default: runs_dir)")
    parser.add_argument("--list", metavar="STATES", help="list the runs in these states: --list failed,missing")
    parser.add_argument("--json", action="store_true", help="print one JSON object per sweep")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="folder with config files")
    options = parser.parse_intermixed_args(arguments)
    places, overrides = folders_and_overrides(options.places)
    if overrides or not places:
        from roadmap.config.compose import compose

        places.append(compose(overrides, options.config_dir).settings.runs_dir)
    states = options.list.split(",") if options.list else []
    if unknown := [state for state in states if state not in STATES]:
        raise RequestError(f"unknown state '{unknown[0]}' in --list (choose {listed(STATES)})")
    statuses, skipped = read_statuses(places)
    if options.json:
        print(json.dumps([_object(status) for status in statuses], indent=1, ensure_ascii=False))
    elif not states:
        print(printable(table(statuses)))
    elif runs := [run for status in statuses for run in status.runs if run.state in states]:
        rows = [[run.state, run.plan["run_id"], run.name, run.path or "", run.error or ""] for run in runs]
        print(aligned(["state", "run_id", "run", "folder", "error"], rows))
    for sentence in skipped:
        logger.error(sentence)
    return int(bool(skipped))


def read_statuses(places: Sequence[str]) -> tuple[list[SweepStatus], list[str]]:
    """Return the status of each sweep in folders of runs, or in the folders of single sweeps.

    The second value has a sentence about each plan and record that cannot be read. Raises RequestError for a folder
    that does not exist or has no sweep.
    """
    statuses, skipped = [], []
    for place in map(Path, dict.fromkeys(places)):
        if not is_place(place):
            raise RequestError(f"{place} is not a folder" if place.exists() else f"no folder {place}")
        own = place.absolute()
        runs_dir, folders = (own.parent.parent, [own]) if is_file(own / HEADER) else (place, [*sweep_folders(place)])
        if not folders:
            raise RequestError(f"no sweep in {place} (choose the runs_dir of a sweep, or its folder there)")
        runs, unreadable = read_records(runs_dir)
        skipped += unreadable
        for folder in folders:
            try:
                statuses.append(status_of(read_sweep(folder), runs))
            except RequestError as error:
                skipped.append(str(error))
    return statuses, skipped


def read_records(runs_dir: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of the runs directly in ``runs_dir``, and a sentence about each record that cannot be read."""
    if exported_part(runs_dir):
        return read_runs(runs_dir)
    return read_runs([str(file.parent) for file in sorted(Path(runs_dir).glob(f"*/{SUMMARY}"))])


def status_of(sweep: Sweep, runs: pd.DataFrame) -> SweepStatus:
    """Return the status of a sweep from the records of ``read_records``.

    A locked run is running. A run that is recorded as running but not locked was killed and counts as interrupted.
    """
    columns = zip(*(runs[name] for name in ("status", "path", "error")), strict=True)
    records = dict(zip(runs["run_id"], columns, strict=True))
    seconds = estimate(sweep.runs, runs[runs["data"] == sweep.header["data"]])
    statuses = []
    for plan, whole in zip(sweep.runs, seconds, strict=True):
        status, path, error = records.get(plan["run_id"], (None, None, None))
        holder = None if status == "finished" else RunLock(sweep.runs_dir, plan["run_id"]).holder()
        state = "running" if holder else STATE_OF_STATUS.get(status, "interrupted")
        done = progress(path, plan["epochs"]) if path and state in ("running", "interrupted") else None
        left = 0.0 if state in ("done", "failed") else whole * (1 - done.epoch / done.epochs if done else 1)
        error = str(error or "failed without an error message") if state == "failed" else None
        statuses.append(PlannedRunStatus(plan, state, path, error, holder, done, left))
    return SweepStatus(sweep, statuses)


def estimate(planned: Sequence[Mapping[str, Any]], runs: pd.DataFrame) -> np.ndarray:
    """Return the estimated seconds of training and evaluation of planned runs; NaN without a finished run.

    The estimate is the mean time per image of finished runs of the same design and recipe, or else is proportional to
    GMACs. Only runs with the device, number of processes and precision of the last finished one are used.
    """
    runs = runs[runs["status"] == "finished"].dropna(subset=["train_seconds", "train_images", "epochs", "gmacs"])
    if not len(runs):
        return np.full(len(planned), np.nan)
    conditions = runs[[name for name in ("device", "processes", "precision") if name in runs]].astype(str)
    last = runs["ended"].fillna("").argmax()
    runs = runs[(conditions == conditions.iloc[last]).all(axis=1)]
    images = runs["epochs"] * runs["train_images"]
    per_gmac = runs["train_seconds"].sum() / (runs["gmacs"] * images).sum()
    per_image = (runs["train_seconds"] / images).groupby([runs["variant"], runs["gmacs"]]).mean().to_dict()
    return np.array(
        [run["images"] * per_image.get((run["variant"], run["gmacs"]), run["gmacs"] * per_gmac) for run in planned]
    )


def table(statuses: Sequence[SweepStatus]) -> str:
    """Return a table with a row per sweep, followed by lines about its running, interrupted and failed runs."""
    rows = [
        [status.sweep.name, str(len(status.runs)), *map(str, status.counts.values()), time_left(status)]
        for status in statuses
    ]
    lines = [aligned(["sweep", "runs", *STATES, "time left"], rows)]
    for status in statuses:
        details = []
        for state in ("running", "interrupted", "failed"):
            runs = [run for run in status.runs if run.state == state]
            details += [f"{state}: {run.name}: {_details(run)}" for run in runs[:SHOWN]]
            details += [f"{state}: {len(runs) - SHOWN} more, see --list"] if len(runs) > SHOWN else []
        lines += ["", f"{status.sweep.name}:", *details] if details else []
    return "\n".join(lines)


def time_left(status: SweepStatus) -> str:
    """Return the time left with as many workers as there are now: ``12 min with 2 running``."""
    running = status.counts["running"]
    seconds = status.seconds_left(max(running, 1))
    if seconds == 0:
        return ""
    by = f"with {running} running" if running else "on one worker"
    return "unknown" if np.isnan(seconds) else f"{duration(seconds)} {by}"


def _details(run: PlannedRunStatus) -> str:
    if run.error is not None:
        return run.error
    return in_words(run.progress, run.plan["epochs"]) + (f", by {run.holder}" if run.holder else "")


def _object(status: SweepStatus) -> dict[str, Any]:
    """Return a sweep for --json; unknown seconds are null."""
    runs = [
        {name: run.plan[name] for name in ("run_id", "regime", "variant", "seed", "epochs")}
        | {"state": run.state, "folder": run.path, "error": run.error, "holder": run.holder}
        | {"epoch": run.progress and run.progress.epoch, "top1": run.progress and run.progress.top1}
        | {"seconds_left": _or_none(run.seconds_left)}
        for run in status.runs
    ]
    workers = status.counts["running"]
    return {
        "name": status.sweep.name,
        "folder": str(status.sweep.path),
        "planned": status.sweep.header["planned"],
        **status.counts,
        "left": {"seconds": _or_none(status.seconds_left(max(workers, 1))), "workers": workers},
        "runs": runs,
    }


def _or_none(seconds: float) -> float | None:
    return seconds if seconds == seconds else None
