"""``roadmap status``: the status of sweeps."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.cli.arguments import Parser, folders_and_overrides, say_skipped
from roadmap.cli.watch import follow
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed, printable
from roadmap.runs.records import is_file, is_place
from roadmap.runs.run_lock import RunLock, is_locked, lock_holder
from roadmap.runs.sweep_plan import FOLDER, HEADER, Sweep, read_sweep, sweep_folders

if TYPE_CHECKING:
    from roadmap.sweeps.sweep_status import PlannedRunStatus, SweepStatus

logger = logging.getLogger(__name__)


@dataclass
class StatusReport:
    """Sweeps, runs that belong to no sweep (folder → status → number), and sentences about what cannot be read."""

    statuses: "list[SweepStatus]" = field(default_factory=list)
    unplanned: dict[str, dict[str, int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    places, overrides = folders_and_overrides(options.places)
    if overrides or not places:
        from roadmap.config.compose import compose

        places.append(compose(overrides, options.config_dir).settings.runs_dir)
    if options.watch is not None:
        if options.json or options.list:
            raise RequestError("--watch shows the table; remove --json and --list")
        return follow(partial(_screen, places), options.watch)
    states = _states(options.list)
    found = status_report(places)
    say_skipped(found.skipped)
    if options.json:
        print(json.dumps([_object(status) for status in found.statuses], indent=1, ensure_ascii=False))
    elif states:
        _print_list(found.statuses, states)
    else:
        print(printable(text(found)))
    for sentence in found.broken:
        logger.error(sentence)
    return int(bool(found.broken))


def _parser() -> Parser:
    parser = Parser(prog="roadmap status", description="show the status of sweeps and the time left")
    parser.add_argument("places", nargs="*", metavar="FOLDER", help="folders of runs or of a sweep (default: runs_dir)")
    parser.add_argument("--list", metavar="STATES", help="list the runs in these states: --list failed,missing")
    parser.add_argument("--watch", nargs="?", const=5.0, type=float, metavar="SECONDS", help="refresh periodically")
    parser.add_argument("--json", action="store_true", help="print one JSON object per sweep")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="folder with config files")
    return parser


def _states(words: str | None) -> list[str]:
    from roadmap.sweeps.sweep_status import STATES

    states = words.split(",") if words else []
    for state in states:
        if state not in STATES:
            raise RequestError(f"unknown state '{state}' in --list (choose {listed(STATES)})")
    return states


def status_report(places: Sequence[str]) -> StatusReport:
    """Return the status of the sweeps in folders of runs, or in the folders of single sweeps.

    Raises RequestError for a folder that does not exist or has neither sweeps nor runs.
    """
    from roadmap.sweeps.sweep_status import read_records, status_of, unplanned_counts

    found = StatusReport()
    for place in dict.fromkeys(Path(place) for place in places):
        runs_dir, folders = _sweeps_in(place)
        sweeps, broken = _read(folders)
        runs, skipped = read_records(str(runs_dir), sweeps)
        if not (folders or len(runs) or skipped):
            raise RequestError(f"no sweep and no run in {place} (choose the runs_dir of a sweep, or its folder there)")
        found.statuses += [status_of(sweep, runs, partial(_holder, runs_dir)) for sweep in sweeps]
        found.broken += broken
        found.skipped += skipped
        if runs_dir == place and not broken:
            found.unplanned[str(place)] = unplanned_counts(sweeps, runs)
    return found


def _sweeps_in(place: Path) -> tuple[Path, list[Path]]:
    """Return the folder of runs of a place, and the folders of its sweeps."""
    if not is_place(place):
        raise RequestError(f"{place} is not a folder" if place.exists() else f"no folder {place}")
    whole = place.absolute()
    if is_file(whole / HEADER):
        return whole.parent.parent, [whole]
    if whole.name == FOLDER:
        return whole.parent, list(sweep_folders(whole.parent))
    return place, list(sweep_folders(place))


def _read(folders: Sequence[Path]) -> tuple[list[Sweep], list[str]]:
    """Return the sweeps, and a sentence about each that cannot be read."""
    sweeps, broken = [], []
    for folder in folders:
        try:
            sweeps.append(read_sweep(folder))
        except RequestError as error:
            broken.append(str(error))
    return sweeps, broken


def _holder(runs_dir: Path, run_id: str) -> str | None:
    """Return the process that is running a run, or None."""
    return lock_holder(RunLock(runs_dir, run_id).file) if is_locked(runs_dir, run_id) else None


def _screen(places: Sequence[str]) -> tuple[str, bool]:
    """Return the text for --watch, and whether anything is running."""
    try:
        found = status_report(places)
    except RequestError as error:
        return str(error), False
    return "\n".join([text(found), *found.broken]), any(status.left.workers for status in found.statuses)


def text(found: StatusReport) -> str:
    """Return the table of sweeps, and a line about other runs."""
    from roadmap.sweeps.status_text import table, unplanned_line

    parts = [table(found.statuses)] if found.statuses else []
    for place, statuses in found.unplanned.items():
        parts += [unplanned_line(statuses, place)] if statuses else []
    return "\n\n".join(parts)


def _print_list(statuses: "Sequence[SweepStatus]", states: Sequence[str]) -> None:
    from roadmap.sweeps.status_text import listed_runs

    if rows := list(listed_runs(statuses, states)):
        print(aligned(["state", "run_id", "run", "folder", "error"], rows))


def _object(status: "SweepStatus") -> dict[str, Any]:
    """Return a sweep for --json; unknown seconds are null."""
    left = {name: None if value != value else value for name, value in asdict(status.left).items()}
    return {
        "name": status.sweep.name,
        "folder": str(status.sweep.path),
        "planned": status.sweep.header.get("planned"),
        **status.counts,
        "left": left,
        "runs": [_run_object(run) for run in status.runs],
    }


def _run_object(run: "PlannedRunStatus") -> dict[str, Any]:
    done = run.progress
    return {
        **{name: run.plan.get(name) for name in ("run_id", "regime", "variant", "seed", "epochs")},
        "state": run.state,
        "folder": run.path,
        "error": run.error,
        "holder": run.holder,
        "epoch": done.epoch if done else None,
        "top1": done.top1 if done else None,
        "seconds_left": done.left if done else None,
    }
