"""Runs in one file, which is read like a folder of runs. docs/runs.md describes the format."""

import base64
import errno
import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import field

from roadmap.errors import RequestError
from roadmap.untrusted_io import parse_json
from roadmap.validation import FileRecord, converted, shown

SUFFIX = ".runs.jsonl.gz"
FORMAT, VERSION = "roadmap runs", 1
SECTIONS = ("records", "settings", "metrics", "predictions")
MAX_LINE = 2**26  # bytes; guards against a line that decompresses to more than the memory holds
NAME = re.compile(r"(?!\.{1,2}$)[^/\0]+")  # one component of a path
TEXTS = {"config": ".hydra/config.yaml", "overrides": ".hydra/overrides.yaml"}


class Line(FileRecord):
    """A line of any section: of a run, a sweep or a bench."""

    run: str | None = None
    sweep: str | None = None
    bench: str | None = None
    summary: Any = None
    evaluations: dict[str, Any] = field(default_factory=dict)
    header: Any = None
    plan: Any = None
    record: Any = None
    config: str | None = None
    overrides: str | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(name := self.run or self.sweep or self.bench or ""):
            raise ValueError(f"{shown(name)} is not a valid name of a run, sweep or bench")


class ExportedRuns:
    """An exported file with its records in memory; the other sections are read on demand.

    Raises RequestError for a file that is damaged, has another format, or a newer version.
    """

    def __init__(self, file: str):
        self.file = file
        self.runs: list[str] = []
        self.sweeps: list[str] = []
        self.records: dict[str, Any] = {}  # by the path that they would have in a folder of runs
        for line in self.section("records"):
            if line.run:
                self.runs.append(line.run)
                self.records[f"{line.run}/summary.json"] = line.summary
                for key, record in line.evaluations.items():
                    self.records[f"{line.run}/evaluations/{key}.json"] = record
            elif line.sweep:
                self.sweeps.append(line.sweep)
                self.records[f"sweeps/{line.sweep}/sweep.json"] = line.header
                self.records[f"sweeps/{line.sweep}/plan.jsonl"] = line.plan
            else:
                self.records[f"bench/{line.bench}.json"] = line.record

    def content(self, place: str) -> Any:
        """The content of a file: text for YAML, bytes for predictions, otherwise parsed JSON.

        Raises FileNotFoundError.
        """
        found = self._settings if place.endswith(".yaml") else self._files if place.endswith(".npz") else self.records
        if place not in found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.file}/{place}")
        return found[place]

    @cached_property
    def last_rows(self) -> dict[str | None, dict[str, Any]]:
        """The metrics of each run's last epoch."""
        lines = self.section("metrics")
        return {line.run: {name: values[-1] for name, values in line.columns.items() if values} for line in lines}

    @cached_property
    def _settings(self) -> dict[str, Any]:
        lines = self.section("settings")
        texts = {f"{line.run}/{file}": getattr(line, key) for line in lines for key, file in TEXTS.items()}
        return {place: text for place, text in texts.items() if text is not None}

    @cached_property
    def _files(self) -> dict[str, Any]:
        lines = self.section("predictions")
        try:
            return {f"{line.run}/{name}": base64.b64decode(text) for line in lines for name, text in line.files.items()}
        except ValueError as error:
            raise RequestError(f"cannot read {self.file}: {error}") from error

    def section(self, wanted: str) -> Iterator[Line]:
        """Yield the lines of a section, reading up to its end only, where the checksum is verified."""
        try:
            with gzip.open(self.file, "rb") as file:
                header = parse_json(_text(file))
                if not isinstance(header, dict) or (header.get("format"), header.get("version")) != (FORMAT, VERSION):
                    raise ValueError("it is not a file of `roadmap export`, or one of a newer version")
                for section in SECTIONS:
                    while not (len(text := _text(file)) < 64 and parse_json(text) == {"end": section}):
                        if section == wanted:
                            yield converted(parse_json(text), Line)
                    if section == wanted:
                        file.peek(1)  # reads past the end of the gzip member, which verifies its checksum
                        return
        except (OSError, EOFError, ValueError, zlib.error) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise RequestError(f"cannot read {self.file}: {reason}") from error


def _text(file: gzip.GzipFile) -> bytes:
    text = file.readline(MAX_LINE)
    if not text.endswith(b"\n"):
        raise ValueError(f"a line is longer than {MAX_LINE} bytes" if len(text) == MAX_LINE else "it ends early")
    return text


def opened(file: str) -> ExportedRuns:
    """Return the exported runs in a file, cached until the file changes."""
    state = os.stat(file)
    return _opened(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _opened(file: str, _changed: int, _size: int) -> ExportedRuns:
    return ExportedRuns(file)


def write_exported(file: Path, sections: Iterable[Iterable[dict[str, Any]]]) -> None:
    """Write the lines of all ``SECTIONS`` atomically; equal lines give equal bytes. Raises RequestError."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    header = {"format": FORMAT, "version": VERSION}
    try:
        with open(partial, "wb") as out:
            for lines in ([header], *([*lines, {"end": end}] for end, lines in zip(SECTIONS, sections, strict=True))):
                # a gzip member of its own per section, so that a reader of a section can verify its checksum
                with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as member:
                    member.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
        partial.replace(file)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
