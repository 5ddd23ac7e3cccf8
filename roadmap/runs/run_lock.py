"""Run locks: of several processes, on one machine or several, only one trains a run."""

import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from roadmap.errors import RequestError, WorkError

FOLDER = ".locks"


class RunLockedError(WorkError):
    """Another process is training the run."""


class RunLock:
    """The right to train a run, until ``release`` or the end of the process, however it ends.

    It is a lock (flock) on a file that stays. ``runs_dir`` must be on a file system whose locks hold across machines
    if several share it.
    """

    def __init__(self, runs_dir: str | Path, run_id: str):
        self.file = _file(runs_dir, run_id)

    def acquire(self) -> None:
        """Lock the run. Raises RunLockedError if it is locked, and RequestError if ``runs_dir`` is not writable."""
        from filelock import FileLock, Timeout  # importing it takes longer than locking

        self.lock = FileLock(self.file, blocking=False, is_singleton=False, thread_local=False)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            raise RunLockedError(
                f"another process is training run {self.file.name} (lock held by {lock_holder(self.file)})"
            ) from None
        except OSError as error:
            raise RequestError(f"cannot write {self.file}: {error.strerror}; choose another runs_dir") from error

    def release(self) -> None:
        """Unlock the run."""
        self.lock.release()

    def discard(self) -> None:
        """Unlock the run, and remove the file and folders that the lock created if nothing else is in them."""
        # while the lock is held, so that nobody else can hold it through the removed file
        self.file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.file.parent.rmdir()
            self.file.parent.parent.rmdir()
        self.release()


def is_locked(runs_dir: str | Path, run_id: str) -> bool:
    """Whether a process is training the run now."""
    try:
        with open(_file(runs_dir, run_id), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def lock_holder(file: Path) -> str:
    """The last holder of a lock file, such as ``process 4711 on node3``."""
    try:
        return file.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"


def _file(runs_dir: str | Path, run_id: str) -> Path:
    # the ids in other people's plans may hold any characters
    return Path(runs_dir) / FOLDER / re.sub(r"[^\w.+=-]", "+", run_id)
