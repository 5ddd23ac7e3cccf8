"""Read records from folders and exported files.

All readers of runs use these functions, so that ``FILE.runs.jsonl.gz`` and ``FILE.runs.jsonl.gz/RUN`` are accepted
wherever a folder of runs and the folder of a run are.
"""

import os
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from roadmap.errors import RequestError
from roadmap.runs.exported import SUFFIX, opened
from roadmap.untrusted_io import parse_json, parse_yaml

Place = str | os.PathLike[str]
EXCLUDE = ".exclude"  # a subfolder with a file of this name is skipped
RECORDS = ("summary.json", "metrics.jsonl")  # a folder with either of them is a run
OVERRIDE = re.compile(r"[+~]*\w[\w./@:-]*=")
NO_RUNS = ("checkpoints", "wandb", "evaluations")


def exported_part(path: Place) -> tuple[str, str] | None:
    """Split a path at the exported file in it: the file and the rest; None for a path without one."""
    head, suffix, rest = os.fspath(path).partition(SUFFIX)
    is_exported = suffix and rest[:1] in ("", "/") and os.path.isfile(head + suffix)
    return (head + suffix, rest.strip("/")) if is_exported else None


def is_place(path: Place) -> bool:
    """Whether a path is a folder, an exported file, or a path into one."""
    return os.path.isdir(path) or exported_part(path) is not None


def is_file(path: Place) -> bool:
    """Whether a record or a file of predictions exists."""
    if not (part := exported_part(path)):
        return os.path.isfile(path)
    try:
        opened(part[0]).content(part[1])
    except FileNotFoundError:
        return False
    return True


def read_file(path: Place, parse: Callable[[bytes], Any]) -> Any:
    """Return the parsed content of a file; an exported file holds it parsed. Raises OSError or ValueError."""
    if part := exported_part(path):
        return opened(part[0]).content(part[1])
    with open(path, "rb") as file:
        return parse(file.read())


def read_json(path: Place) -> Any:
    """Return a record. Raises OSError or ValueError."""
    return read_file(path, parse_json)


def read_text(path: Place) -> str:
    """Return a file of YAML as text. Raises OSError or ValueError."""
    return str(read_file(path, bytes.decode))


def logged_overrides(run: Place) -> tuple[str, ...] | None:
    """Return the overrides that a run was started with, or None if they are not logged or not all overrides."""
    try:
        overrides = parse_yaml(read_text(Path(run, ".hydra", "overrides.yaml")))
    except (OSError, ValueError):
        return None
    # another word could be an option of the command that they become part of
    valid = isinstance(overrides, list) and all(isinstance(word, str) and OVERRIDE.match(word) for word in overrides)
    return tuple(overrides) if valid else None


def run_paths(place: str, skipped: list[str]) -> Iterator[str]:
    """Yield the paths of all runs in a folder or exported file, in the order of their names.

    ``FILE/PATTERN`` selects runs in an exported file. What cannot be read below ``place`` is added to ``skipped``.
    Raises RequestError if ``place`` itself cannot be read.
    """
    if part := exported_part(place):
        file, rest = part
        runs = opened(file).runs
        chosen = [rest] if rest in runs else [run for run in runs if fnmatchcase(run, rest or "*")]
        if rest and not chosen:
            raise RequestError(f"no run {rest} in {file}")
        yield from (f"{file}/{run}" for run in chosen)
    else:
        yield from _walk(place, skipped)


def _walk(folder: str, skipped: list[str], named: bool = True) -> Iterator[str]:
    """Yield the folders of runs, and the runs in exported files. A run may have metrics but no summary."""
    below, is_run = [], False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in RECORDS:
                    is_run = True
                elif entry.name == EXCLUDE and not named:
                    return
                elif not entry.name.startswith(".") and entry.name not in NO_RUNS:
                    exported = entry.name.endswith(SUFFIX) and entry.is_file()
                    below += [entry.path] if exported or entry.is_dir(follow_symlinks=False) else []
    except OSError as error:
        # removed meanwhile, or not readable
        skipped.append(f"{folder}: {error.strerror}")
        return
    if is_run:
        yield folder
    for path in sorted(below):
        if os.path.isdir(path):
            yield from _walk(path, skipped, named=False)
        elif _is_readable(path, skipped):
            yield from run_paths(path, skipped)


def _is_readable(file: Place, skipped: list[str]) -> bool:
    """Whether an exported file can be read; otherwise add a sentence to ``skipped``."""
    try:
        opened(os.fspath(file))
    except RequestError as error:
        skipped.append(str(error).removeprefix("cannot read "))
        return False
    return True


def files_below(named: Path, pattern: str, skipped: list[str]) -> list[Path]:
    """Return the files below ``named`` that match ``**/pattern``, sorted, without those of excluded folders."""

    @cache
    def excluded(folder: Path) -> bool:
        return folder != named and ((folder / EXCLUDE).exists() or excluded(folder.parent))

    if part := exported_part(named):
        file, rest = part
        places = [place for place in opened(file).records if place.startswith(rest and f"{rest}/")]
        return sorted(Path(file, place) for place in places if PurePosixPath(place).match(pattern))
    found = [file for file in named.rglob(pattern) if not excluded(file.parent)]
    for exported in named.rglob(f"*{SUFFIX}"):
        if not excluded(exported.parent) and exported.is_file() and _is_readable(exported, skipped):
            found += files_below(exported, pattern, skipped)
    return sorted(found)
