"""Runs in one file, which is read like a folder of runs. docs/export.md describes the format."""

import base64
import binascii
import errno
import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any

import msgspec

from roadmap.errors import RequestError
from roadmap.untrusted_io import parse_json

SUFFIX = ".runs.jsonl.gz"
FORMAT, VERSION = "roadmap runs", 1
SECTIONS = ("records", "settings", "metrics", "predictions")
MAX_LINE = 2**26  # bytes; guards against a line that decompresses to more than the memory holds
NAME = re.compile(r"(?!\.{1,2}$)[^/\0]+")  # one component of a path
TEXTS = {"config": ".hydra/config.yaml", "overrides": ".hydra/overrides.yaml"}
Line = dict[str, Any]


class ExportedRuns:
    """An exported file with its records in memory; the other sections are read on demand.

    Raises RequestError for a file that is damaged, has another format, or a newer version.
    """

    def __init__(self, file: str):
        self.file = file
        self.runs: list[str] = []
        self.sweeps: list[str] = []
        self._contents: dict[str, Any] = {}
        for line in self._section("records"):
            self._add(line)

    def _add(self, line: Line) -> None:
        """Store a record under the path that it would have in a folder of runs."""
        if "run" in line:
            name = self._name(line["run"])
            self.runs.append(name)
            self._put(f"{name}/summary.json", line.get("summary"))
            for key, record in self._entries(line, "evaluations"):
                self._put(f"{name}/evaluations/{key}.json", record)
        elif "sweep" in line:
            name = self._name(line["sweep"])
            self.sweeps.append(name)
            self._put(f"sweeps/{name}/sweep.json", line.get("header"))
            self._put(f"sweeps/{name}/plan.jsonl", line.get("plan"))
        elif "bench" in line:
            self._put(f"bench/{self._name(line['bench'])}.json", line.get("record"))
        else:
            raise self._error("a record is neither a run, a sweep nor a bench")

    def _put(self, place: str, content: Any) -> None:
        if place in self._contents:
            raise self._error(f"it holds {place} twice")
        self._contents[place] = content

    def content(self, place: str) -> Any:
        """The content of a file: text for YAML, bytes for predictions, otherwise parsed JSON.

        Raises FileNotFoundError.
        """
        if place in self._contents:
            return self._contents[place]
        later = {".npz": "_predictions", ".yaml": "_settings"}.get(os.path.splitext(place)[1])
        if later and place in (found := getattr(self, later)):
            return found[place]
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.file}/{place}")

    def places(self) -> list[str]:
        """The paths of all records, relative to the file."""
        return list(self._contents)

    def metrics(self) -> Iterator[tuple[str, dict[str, list[Any]]]]:
        """The name of each run with metrics, and its columns: one value per epoch."""
        for line in self._section("metrics"):
            columns = dict(self._entries(line, "columns"))
            epochs = columns.get("epoch")
            if not isinstance(epochs, list) or not all(type(epoch) is int for epoch in epochs):
                raise self._error("the epochs of metrics must be integers")
            if not all(isinstance(values, list) and len(values) == len(epochs) for values in columns.values()):
                raise self._error("columns of metrics differ in length")
            yield self._name(line.get("run")), columns

    @cached_property
    def last_rows(self) -> dict[str, dict[str, Any]]:
        """The metrics of each run's last epoch."""
        return {
            run: {name: values[-1] for name, values in columns.items()}
            for run, columns in self.metrics()
            if columns["epoch"]
        }

    @cached_property
    def _settings(self) -> dict[str, str]:
        return {
            f"{self._name(line.get('run'))}/{place}": text
            for line in self._section("settings")
            for key, place in TEXTS.items()
            if isinstance(text := line.get(key), str)
        }

    @cached_property
    def _predictions(self) -> dict[str, bytes]:
        found = {}
        for line in self._section("predictions"):
            run = self._name(line.get("run"))
            for place, text in self._entries(line, "files"):
                try:
                    found[f"{run}/{place}"] = base64.b64decode(text, validate=True)
                except (binascii.Error, TypeError, ValueError):
                    raise self._error("predictions are not valid base64") from None
        return found

    def _section(self, wanted: str) -> Iterator[Line]:
        """Yield the lines of a section, reading up to its end only, where the checksum is verified."""
        try:
            with gzip.open(self.file, "rb") as opened:
                self._check_header(self._line(opened))
                for section in SECTIONS:
                    while (line := self._line(opened, section == wanted)) != {"end": section}:
                        if section == wanted:
                            yield line
                    if section == wanted:
                        opened.peek(1)  # reads past the end of the gzip member, which verifies its checksum
                        return
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._error(" ".join(str(error).split())) from error
        except OSError as error:
            raise self._error(str(error.strerror)) from error

    def _line(self, opened: gzip.GzipFile, parse: bool = True) -> Line:
        text = opened.readline(MAX_LINE)
        if not text.endswith(b"\n"):
            raise self._error(f"a line is longer than {MAX_LINE} bytes" if len(text) == MAX_LINE else "it ends early")
        if not parse and len(text) > 64:  # no end of a section
            return {}
        try:
            line = parse_json(text)
        except ValueError as error:
            raise self._error(f"a line is not JSON: {error}") from error
        if not isinstance(line, dict):
            raise self._error("a line is not an object")
        return line

    def _check_header(self, header: Line) -> None:
        version = header.get("version")
        if header.get("format") != FORMAT or type(version) is not int:
            raise self._error(f"it is not a file of `roadmap export`, which starts with a line with format {FORMAT!r}")
        if version > VERSION:
            raise self._error(
                f"it has version {version}, but this release reads versions up to {VERSION}; update roadmap"
            )

    def _name(self, value: Any) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise self._error(f"{str(value)[:60]!r} is not a valid name of a run, sweep or bench")
        return value

    def _entries(self, line: Line, key: str) -> Iterable[tuple[str, Any]]:
        entries = line.get(key, {})
        if not isinstance(entries, dict):
            raise self._error(f"{key} must be an object")
        return entries.items()

    def _error(self, reason: str) -> RequestError:
        return RequestError(f"cannot read {self.file}: {reason}")


def opened(file: str) -> ExportedRuns:
    """Return the exported runs in a file, cached until the file changes."""
    try:
        state = os.stat(file)
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
    return _opened(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _opened(file: str, _changed: int, _size: int) -> ExportedRuns:
    return ExportedRuns(file)


def write_exported(file: Path, sections: Iterable[Iterable[Line]]) -> None:
    """Write the lines of all ``SECTIONS`` atomically; equal lines give equal bytes. Raises RequestError."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as out:
            _write_member(out, [{"format": FORMAT, "version": VERSION}], end=None)
            for section, lines in zip(SECTIONS, sections, strict=True):
                _write_member(out, lines, end=section)
        partial.replace(file)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_member(out: IO[bytes], lines: Iterable[Mapping[str, Any]], end: str | None) -> None:
    """Write one gzip member per section, so that a reader of a section can verify its checksum."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as member:
        for line in lines:
            try:
                member.write(msgspec.json.encode(line) + b"\n")
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise RequestError(f"cannot export {next(iter(line.values()))!r}: {error}") from error
        if end:
            member.write(msgspec.json.encode({"end": end}) + b"\n")
