"""What is read once and then kept on disk: indices of image files, and decoded images.

A file holds arrays and is memory-mapped. It is written whole or not at all: first the arrays, then in JSON their types,
places and checksums, notes and the state of the data that all was made of, at last its length and checksum.
"""

import hashlib
import logging
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from roadmap.errors import RequestError
from roadmap.schema.experiment import Data
from roadmap.untrusted_io import parse_json
from roadmap.validation import FileRecord, NonNegativeInt, converted

logger = logging.getLogger(__name__)

MAGIC = b"roadmap cache 1\n"  # at both ends; the number is the format's version
ENDING = struct.Struct("<QI")  # length and checksum of the JSON
FOLDER = ".roadmap"
_verified: set[tuple[str, int, int]] = set()  # files, by size and mtime, whose checksums this process has compared


@dataclass(frozen=True)
class Cached:
    """Arrays, memory-mapped if there is a file (writing to them does not change it), with notes and their state."""

    arrays: Mapping[str, np.ndarray]
    notes: Mapping[str, Any]
    state: str
    file: Path | None = None


class _Place(FileRecord):
    dtype: str
    shape: tuple[NonNegativeInt, ...]
    offset: NonNegativeInt
    checksum: NonNegativeInt


class _Footer(FileRecord):
    arrays: dict[str, _Place]
    notes: dict[str, Any]
    state: str


class Target:
    """Arrays that are being made: in a file, or in memory if there is none."""

    def __init__(self, file: Path | None = None):
        self.file, self.end = file, len(MAGIC)
        self.arrays: dict[str, np.ndarray] = {}
        self.offsets: dict[str, int] = {}
        if file is not None:
            file.write_bytes(MAGIC)

    def empty(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return a new array to be filled. Raises OSError if the disk has no space for it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.file is None or not size:
            self.arrays[name] = np.empty(shape, dtype)
        else:
            with open(self.file, "r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    # writing to a mapped page without space on the disk is a signal, not an error
                    os.posix_fallocate(file.fileno(), self.end, size)
                file.truncate(self.end + size)
            self.arrays[name] = np.memmap(self.file, dtype, "r+", self.end, shape)
        self.offsets[name] = self.end
        self.end += -(-size // 64) * 64
        return self.arrays[name]

    def add(self, name: str, array: np.ndarray) -> None:
        """Copy an array."""
        self.empty(name, array.dtype, array.shape)[...] = array

    def finish(self, state: str, notes: Mapping[str, Any]) -> Cached:
        """Return the arrays; complete the file."""
        if self.file is not None:
            places = {
                name: _Place(dtype=array.dtype.str, shape=array.shape, offset=self.offsets[name], checksum=_crc(array))
                for name, array in self.arrays.items()
            }
            footer = msgspec.json.encode(_Footer(arrays=places, notes=dict(notes), state=state))
            with open(self.file, "r+b") as file:
                file.seek(self.end)
                file.write(footer + ENDING.pack(len(footer), zlib.crc32(footer)) + MAGIC)
                file.flush()
                os.fsync(file.fileno())
        return Cached(self.arrays, notes, state)


Make = Callable[[Target], tuple[str, Mapping[str, Any]]]


def cached(data: Data, name: str, key: Any, current: Callable[[Cached], str], make: Make) -> Cached:
    """Return the arrays that ``make`` made once, or make them, in one process at a time.

    ``key`` holds everything that was asked for, in plain values. A damaged file, or one whose state is not the
    ``current`` one, is made again. ``make`` fills a target and returns the data's state and notes. Without a folder
    that can be written, the arrays are made in memory. Raises RequestError if that folder is ``data.cache``.
    """
    digest = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
    files = [folder / f"{name}-{digest[:16]}" for folder in _folders(data)]
    for file in files:
        if (found := _read(file, current)) is not None:
            return found
    for file in files:
        if not _is_writable(file.parent):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with _locked(file):
                # another process may have made it while this one waited
                return _read(file, current, quiet=True) or _write(file, make)
        except OSError as error:
            text = f"cannot write {file}: {error.strerror or error}"
            if data.cache is not None:
                raise RequestError(f"{text}; free some space or choose another data.cache") from error
            logger.warning(f"{text}; continuing without (set data.cache to a folder that can be written)")
    target = Target()
    return target.finish(*make(target))


def files_state(paths: Iterable[str | bytes | Path]) -> str:
    """Return a hash of the sizes of files, and of when they and folders were changed."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = os.stat(path)
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            digest.update(f"{size} {found.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(b"missing\n")
    return digest.hexdigest()


def _folders(data: Data) -> list[Path]:
    """Return where files may lie: ``data.cache``, or with the data, or in the user's own folder of caches."""
    if data.cache is not None:
        return [Path(data.cache)]
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "roadmap"
    return [Path(data.root) / FOLDER, user] if data.root and os.path.isdir(data.root) else [user]


def _is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which may not exist; root keeps to the folder's mode."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    return os.access(existing, os.W_OK) and bool(existing.stat().st_mode & 0o222)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock of a file; where the file system has no locks, go on without, as files are replaced whole."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{file}.lock", is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info(f"another process is making {file}; waiting for it")
        lock.acquire()
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        lock.release()


def _write(file: Path, make: Make) -> Cached:
    for left in file.parent.glob(f".{file.name}.*"):  # by a killed process
        left.unlink(missing_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        target = Target(partial)
        target.finish(*make(target))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return _opened(file)


def _read(file: Path, current: Callable[[Cached], str], *, quiet: bool = False) -> Cached | None:
    """Return a file's content; None, with a message, if it is damaged or out of date."""
    try:
        found = _opened(file)
        if found.state == current(found):
            return found
        reason = "the data has changed"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RequestError) as error:
        reason = f"damaged: {' '.join(str(error).split())}"
    if not quiet:
        logger.info(f"{file} is made again ({reason})")
    return None


def _opened(file: Path) -> Cached:
    """Return a file's content. Raises OSError, ValueError, TypeError or RequestError if it is damaged."""
    with open(file, "rb") as opened:
        found, head = os.fstat(opened.fileno()), opened.read(len(MAGIC))
        end = found.st_size - len(MAGIC) - ENDING.size
        opened.seek(max(end, 0))
        ending, tail = opened.read(ENDING.size), opened.read()
        if head != MAGIC or tail != MAGIC:
            raise ValueError("it is incomplete or of another version")
        length, checksum = ENDING.unpack(ending)
        opened.seek(max(end - length, 0))
        text = opened.read(length)
        if zlib.crc32(text) != checksum:
            raise ValueError("its notes differ from their checksum")
        footer = converted(parse_json(text), _Footer)
    arrays = {}
    for name, place in footer.arrays.items():
        dtype = np.dtype(place.dtype)
        if dtype.kind not in "iuS":
            raise ValueError(f"an array of type {dtype}")
        arrays[name] = np.empty(place.shape, dtype)
        if arrays[name].size:
            arrays[name] = np.asarray(np.memmap(file, dtype, "c", place.offset, place.shape))
    identity = (str(file), found.st_size, found.st_mtime_ns)
    if identity not in _verified:
        for name, place in footer.arrays.items():
            if _crc(arrays[name]) != place.checksum:
                raise ValueError(f"its {name} differ from their checksum")
        _verified.add(identity)
    return Cached(arrays, footer.notes, footer.state, file)


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
