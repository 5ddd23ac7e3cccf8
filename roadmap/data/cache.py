"""Arrays that are made once and then kept on disk: indices of image files, and decoded images.

They lie in a folder, in NumPy's format, memory-mapped. ``notes.json``, written last, has their checksums, and the state
of the data that they were made from. The folder gets its name when it is complete.
"""

import hashlib
import logging
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from roadmap.errors import RequestError
from roadmap.runs.run_folder import write_whole
from roadmap.schema.experiment import Data
from roadmap.untrusted_io import parse_json
from roadmap.validation import FileRecord, converted

logger = logging.getLogger(__name__)

VERSION = 2  # of the format
NOTES = "notes.json"
FOLDER = ".roadmap"
_verified: set[str] = set()  # the states of folders whose checksums this process has compared


@dataclass(frozen=True)
class Cached:
    """Arrays, memory-mapped if there is a folder (writing to them does not change it), with notes and their state."""

    arrays: Mapping[str, np.ndarray]
    notes: Mapping[str, Any]
    state: str
    folder: Path | None = None


class _Notes(FileRecord):
    checksums: dict[str, int]
    notes: dict[str, Any]
    state: str


class Target:
    """Arrays that are being made: in a folder, or in memory if there is none."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.arrays: dict[str, np.ndarray] = {}

    def empty(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return a new array to be filled. Raises OSError if the disk has no space for it."""
        if self.folder is None:
            self.arrays[name] = np.empty(shape, dtype)
        else:
            file = self.folder / f"{name}.npy"
            self.arrays[name] = np.lib.format.open_memmap(file, "w+", dtype, shape)
            if hasattr(os, "posix_fallocate"):
                # writing to a mapped page without space on the disk is a signal, not an error
                with open(file, "r+b") as opened:
                    os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        return self.arrays[name]

    def add(self, name: str, array: np.ndarray) -> None:
        self.empty(name, array.dtype, array.shape)[...] = array

    def finish(self, state: str, notes: Mapping[str, Any]) -> Cached:
        """Return the arrays; complete the folder."""
        if self.folder is not None:
            for array in self.arrays.values():
                array.flush()  # type: ignore[attr-defined]
            checksums = {name: _crc(array) for name, array in self.arrays.items()} | {NOTES: _notes_crc(state, notes)}
            content = _Notes(checksums=checksums, notes=dict(notes), state=state)
            write_whole(self.folder / NOTES, msgspec.json.encode(content))
        return Cached(self.arrays, notes, state)


Make = Callable[[Target], tuple[str, Mapping[str, Any]]]


def cached(data: Data, name: str, key: Any, current: Callable[[Cached], str], make: Make) -> Cached:
    """Return the arrays that ``make`` made once, or make them, in one process at a time.

    ``key`` holds everything that was asked for, in plain values. Damaged arrays, or those whose state is not the
    ``current`` one, are made again. ``make`` fills a target and returns the data's state and notes. Without a folder
    that can be written, the arrays are made in memory. Raises RequestError if that folder is ``data.cache``.
    """
    digest = hashlib.sha256(msgspec.json.encode([VERSION, key], order="sorted")).hexdigest()
    folders = [place / f"{name}-{digest[:16]}" for place in _places(data)]
    for folder in folders:
        if (found := _read(folder, current)) is not None:
            return found
    for folder in folders:
        if not _is_writable(folder.parent):
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                # another process may have made it while this one waited
                return _read(folder, current, quiet=True) or _write(folder, make)
        except OSError as error:
            text = f"cannot write {folder}: {error.strerror or error}"
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


def _places(data: Data) -> list[Path]:
    """Return where arrays may lie: ``data.cache``, or with the data, or in the user's own folder of caches."""
    if data.cache is not None:
        return [Path(data.cache)]
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "roadmap"
    return [Path(data.root) / FOLDER, user] if data.root and os.path.isdir(data.root) else [user]


def _is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which may not exist; root keeps to the folder's mode."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    return os.access(existing, os.W_OK) and bool(existing.stat().st_mode & 0o222)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; where the file system has no locks, go on without."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{folder}.lock", is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info(f"another process is making {folder}; waiting for it")
        lock.acquire()
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        lock.release()


def _write(folder: Path, make: Make) -> Cached:
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a killed process
        shutil.rmtree(left)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        partial.mkdir()
        target = Target(partial)
        target.finish(*make(target))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _opened(folder)


def _read(folder: Path, current: Callable[[Cached], str], *, quiet: bool = False) -> Cached | None:
    """Return a folder's content; None, with a message, if it is damaged or out of date."""
    if not (folder / NOTES).exists():
        return None
    try:
        found = _opened(folder)
        if found.state == current(found):
            return found
        reason = "the data has changed"
    except (OSError, EOFError, ValueError, RequestError) as error:
        reason = f"damaged: {' '.join(str(error).split())}"
    if not quiet:
        logger.info(f"{folder} is made again ({reason})")
    return None


def _opened(folder: Path) -> Cached:
    """Return a folder's content. Raises OSError, EOFError, ValueError or RequestError if it is damaged."""
    content = converted(parse_json((folder / NOTES).read_bytes()), _Notes)
    files = {name: folder / f"{name}.npy" for name in content.checksums if name != NOTES}
    arrays = {name: np.asarray(np.load(file, "c", allow_pickle=False)) for name, file in files.items()}
    state = f"{folder} {files_state([folder / NOTES, *files.values()])}"
    if state not in _verified:
        found = {name: _crc(array) for name, array in arrays.items()}
        found[NOTES] = _notes_crc(content.state, content.notes)
        if odd := [name for name in found if found[name] != content.checksums.get(name)]:
            raise ValueError(f"its {odd[0]} differ from their checksum")
        _verified.add(state)
    return Cached(arrays, content.notes, content.state, folder)


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _notes_crc(state: str, notes: Mapping[str, Any]) -> int:
    return zlib.crc32(msgspec.json.encode([state, notes], order="sorted"))
