"""``roadmap status``: the status of sweeps."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.cli.arguments import Parser, folders_and_overrides
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed, printable
from roadmap.runs.records import is_file, is_place
from roadmap.runs.sweep_plan import HEADER, read_sweep, sweep_folders

if TYPE_CHECKING:
    from roadmap.sweeps.sweep_status import SweepStatus

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    from roadmap.sweeps.sweep_status import STATES, table

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


def read_statuses(places: Sequence[str]) -> "tuple[list[SweepStatus], list[str]]":
    """Return the status of each sweep in folders of runs, or in the folders of single sweeps.

    The second value has a sentence about each plan and record that cannot be read. Raises RequestError for a folder
    that does not exist or has no sweep.
    """
    from roadmap.sweeps.sweep_status import read_records, status_of

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


def _object(status: "SweepStatus") -> dict[str, Any]:
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
