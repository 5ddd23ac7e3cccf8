"""The files in which W&B's client keeps a run: ``wandb/offline-run-DATE-ID/run-ID.wandb`` and ``wandb/run-DATE-ID/…``.

Such a file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) with a header of its own
and zlib's CRC-32; a record is a protobuf message. Nothing in it is executed.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roadmap.errors import WorkError
from roadmap.foreign import parse_json
from roadmap.tracking.wandb_client import client

SUFFIX, SUPERSEDED, SYNCED = ".wandb", ".wandb.superseded", ".wandb.synced"
BLOCK, HEADER, MAGIC = 32768, struct.Struct("<IHB"), b":W&B\xe1\xbe\x00"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Segment:
    """What one file tells of a run: a run that was resumed has several. ``rows`` by W&B's step, later ones winning.

    ``whole`` is False for a file that is cut short or damaged: what could be read of it is here.
    """

    path: Path
    run_id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    started: float = 0.0  # seconds since 1970
    exit_code: int | None = None  # None: it never ended
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    whole: bool = True

    @property
    def offline(self) -> bool:
        """Whether it was logged without a server."""
        return self.path.parent.name.startswith("offline-")

    @property
    def synced(self) -> bool:
        """Whether `wandb sync` has sent it."""
        return self.path.with_suffix(SYNCED).exists()

    @property
    def superseded(self) -> bool:
        """Whether a later segment has all of it."""
        return self.path.name.endswith(SUPERSEDED)

    def supersede(self) -> None:
        """Keep the file under a name that `wandb sync` passes over."""
        self.path = self.path.rename(self.path.with_suffix(SUPERSEDED))

    @property
    def last_heard(self) -> str | None:
        """When the last row was logged, or the segment begun: UTC, ISO 8601."""
        stamps = [row.get("_timestamp") for row in self.rows.values()]
        seconds = max([stamp for stamp in stamps if isinstance(stamp, int | float)], default=self.started)
        return iso(seconds)


def iso(seconds: float) -> str | None:
    """UTC, to the second, ISO 8601; None for no time at all."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
    except (OverflowError, ValueError, OSError):
        return None


def segment_files(folder: Path) -> list[Path]:
    """Every such file under a folder, superseded ones included, the oldest first; links are not followed."""
    found = [*folder.rglob(f"run-*{SUFFIX}"), *folder.rglob(f"run-*{SUPERSEDED}")]
    return sorted(path for path in found if path.is_file() and not path.parent.is_symlink())


def read_segment(path: Path) -> Segment:
    """What is whole of a file. Raises WorkError where it is no such file or cannot be read at all."""
    # internal: the public client has no reader of its own files
    client("reading .wandb files")
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorkError(f"cannot read {path}: {error.strerror}") from error
    if content[: len(MAGIC)] != MAGIC:
        raise WorkError(f"{path} is no W&B run file: it does not begin as one")
    segment = Segment(path)
    for data in _records(content, segment):
        record = Record()
        try:
            record.ParseFromString(data)
            _take(record, segment)
        except (DecodeError, ValueError, RecursionError):
            segment.whole = False
    return segment


def _records(content: bytes, segment: Segment) -> Iterator[bytes]:
    """The log's records; behind a damaged one it goes on with the next block."""
    place, parts = len(MAGIC), b""
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:
            place += left
            continue
        kind, data = _part(content, place, left)
        if kind in (FULL, FIRST) and parts:
            # the end of the record before is lost
            segment.whole, parts = False, b""
        if kind is None or (kind in (MIDDLE, LAST) and not parts):
            segment.whole, parts = False, b""
            place += left if kind is None else HEADER.size + len(data)
            continue
        place += HEADER.size + len(data)
        parts += data
        if kind in (FULL, LAST):
            yield parts
            parts = b""
    if parts:
        segment.whole = False


def _part(content: bytes, place: int, left: int) -> tuple[int | None, bytes]:
    """Kind and bytes of the part of a record at a place; None for one that is cut short or fails its checksum."""
    if place + HEADER.size > len(content):
        return None, b""
    checksum, size, kind = HEADER.unpack_from(content, place)
    data = content[place + HEADER.size : place + HEADER.size + size]
    fits = len(data) == size <= left - HEADER.size and kind in (FULL, FIRST, MIDDLE, LAST)
    return (kind, data) if fits and zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum else (None, b"")


def _take(record: Any, segment: Segment) -> None:
    """Add what a record says."""
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run = record.run
        segment.run_id, segment.entity, segment.project = run.run_id, run.entity, run.project
        segment.name, segment.started = run.display_name, run.start_time.seconds + run.start_time.nanos / 1e9
        _update(segment.config, run.config)
        _update(segment.summary, run.summary)
    elif kind == "config":
        _update(segment.config, record.config)
    elif kind == "summary":
        _update(segment.summary, record.summary)
    elif kind == "history":
        row: dict[str, Any] = {}
        for item in record.history.item:
            _set(row, item)
        step = row.get("_step", record.history.step.num)
        segment.rows[int(step)] = segment.rows.get(int(step), {}) | row
    elif kind == "exit":
        segment.exit_code = record.exit.exit_code


def _update(values: dict[str, Any], change: Any) -> None:
    for item in change.update:
        _set(values, item)
    for item in change.remove:
        values.pop(item.nested_key[0] if item.nested_key else item.key, None)


def _set(values: dict[str, Any], item: Any) -> None:
    """One value at its key, or deep within dicts at a nested one."""
    *path, last = item.nested_key or [item.key]
    for part in path:
        below = values.get(part)
        if not isinstance(below, dict):
            below = values[part] = {}
        values = below
    values[last] = parse_json(item.value_json)
