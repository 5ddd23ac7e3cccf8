"""``roadmap status``: where sweeps stand."""

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
from roadmap.runs.run_lock import RunLock, held, holder
from roadmap.runs.sweep_plan import FOLDER, HEADER, Sweep, read_sweep, sweep_folders

if TYPE_CHECKING:
    from roadmap.sweeps.sweep_status import PlannedRunStatus, SweepStatus

logger = logging.getLogger(__name__)


@dataclass
class Look:
    """Where sweeps stand, the runs beside them (folder → status → number), and what could not be read, in sentences."""

    statuses: "list[SweepStatus]" = field(default_factory=list)
    beside: dict[str, dict[str, int]] = field(default_factory=dict)
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
            raise RequestError("--watch shows the table; leave out --json and --list")
        return follow(partial(_screen, places), options.watch)
    states = _states(options.list)
    found = look(places)
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
    parser = Parser(prog="roadmap status", description="where sweeps stand: done, running, failed, missing, time left")
    parser.add_argument("places", nargs="*", metavar="FOLDER", help="of runs or of one sweep; none: runs_dir")
    parser.add_argument("--list", metavar="STATES", help="the runs in these, one a line: --list failed,missing")
    parser.add_argument("--watch", nargs="?", const=5.0, type=float, metavar="SECONDS", help="go on showing it")
    parser.add_argument("--json", action="store_true", help="one object a sweep, with all its runs")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="config files of your own")
    return parser


def _states(words: str | None) -> list[str]:
    from roadmap.sweeps.sweep_status import STATES

    states = words.split(",") if words else []
    for state in states:
        if state not in STATES:
            raise RequestError(f"unknown state '{state}' in --list (choose {listed(STATES)})")
    return states


def look(places: Sequence[str]) -> Look:
    """Where the sweeps in folders stand; each is one of runs with the sweeps in it, or of one sweep.

    Raises RequestError for what is no folder, and for one with neither sweep nor run.
    """
    from roadmap.sweeps.sweep_status import others, read_records, status_of

    found = Look()
    for place in dict.fromkeys(Path(place) for place in places):
        runs_dir, folders = _sweeps_in(place)
        sweeps, broken = _read(folders)
        runs, skipped = read_records(str(runs_dir), sweeps)
        if not (folders or len(runs) or skipped):
            raise RequestError(f"no sweep and no run in {place}; name the runs_dir of a sweep, or its folder there")
        found.statuses += [status_of(sweep, runs, partial(_holder, runs_dir)) for sweep in sweeps]
        found.broken += broken
        found.skipped += skipped
        if runs_dir == place and not broken:
            found.beside[str(place)] = others(sweeps, runs)
    return found


def _sweeps_in(place: Path) -> tuple[Path, list[Path]]:
    """The folder of runs that a place means, and the folders of its sweeps."""
    if not is_place(place):
        raise RequestError(f"{place} is no folder" if place.exists() else f"no folder {place}")
    whole = place.absolute()
    if is_file(whole / HEADER):
        return whole.parent.parent, [whole]
    if whole.name == FOLDER:
        return whole.parent, list(sweep_folders(whole.parent))
    return place, list(sweep_folders(place))


def _read(folders: Sequence[Path]) -> tuple[list[Sweep], list[str]]:
    """Their sweeps, and a sentence about each that cannot be read."""
    sweeps, broken = [], []
    for folder in folders:
        try:
            sweeps.append(read_sweep(folder))
        except RequestError as error:
            broken.append(str(error))
    return sweeps, broken


def _holder(runs_dir: Path, run_id: str) -> str | None:
    """The process that trains a run, if one does."""
    return holder(RunLock(runs_dir, run_id).file) if held(runs_dir, run_id) else None


def _screen(places: Sequence[str]) -> tuple[str, bool]:
    """What --watch shows now, and whether anything is running."""
    try:
        found = look(places)
    except RequestError as error:
        return str(error), False
    return "\n".join([text(found), *found.broken]), any(status.left.workers for status in found.statuses)


def text(found: Look) -> str:
    """The table of the sweeps, and a line about the runs beside them."""
    from roadmap.sweeps.status_text import beside, table

    parts = [table(found.statuses)] if found.statuses else []
    for place, statuses in found.beside.items():
        parts += [beside(statuses, place)] if statuses else []
    return "\n\n".join(parts)


def _print_list(statuses: "Sequence[SweepStatus]", states: Sequence[str]) -> None:
    from roadmap.sweeps.status_text import listed_runs

    if rows := list(listed_runs(statuses, states)):
        print(aligned(["state", "run_id", "run", "folder", "error"], rows))


def _object(status: "SweepStatus") -> dict[str, Any]:
    """A sweep as --json has it; seconds that are not known are null."""
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
