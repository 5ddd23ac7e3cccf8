"""Who trains a run: of several processes, on one machine or on many, one."""

import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from roadmap.errors import RequestError, WorkError

FOLDER = ".claims"


class RunLockedError(WorkError):
    """Another process has the run."""


class RunLock:
    """The right to train a run, for as long as this process lives or until ``free``.

    A lock on a file that stays (flock), so that a claim ends with its process however that ends. ``runs_dir`` has to be
    on a file system whose locks hold across the machines that share it.
    """

    def __init__(self, runs_dir: str | Path, run_id: str):
        self.file = _file(runs_dir, run_id)

    def take(self) -> None:
        """Raises RunLockedError where another process has it, RequestError where ``runs_dir`` cannot be written."""
        # its import takes longer than a claim
        from filelock import FileLock, Timeout

        self.lock = FileLock(self.file, blocking=False, is_singleton=False, thread_local=False)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            raise RunLockedError(f"run {self.file.name} is being trained by {holder(self.file)}") from None
        except OSError as error:
            raise RequestError(f"cannot write {self.file}: {error.strerror}; choose another runs_dir") from error

    def withdraw(self) -> None:
        """Let others have it, and leave nothing behind where nothing was: the request was wrong."""
        # while the lock is held, so that nobody else can have it by the file that goes
        self.file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.file.parent.rmdir()
            self.file.parent.parent.rmdir()
        self.free()

    def free(self) -> None:
        """Let others have it."""
        self.lock.release()


def held(runs_dir: str | Path, run_id: str) -> bool:
    """Whether a process has the run now."""
    try:
        with open(_file(runs_dir, run_id), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # no such file, or no locks there
        return False
    return False


def holder(file: Path) -> str:
    """Who took a claim last: ``process 123 on node7``."""
    try:
        return file.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"


def _file(runs_dir: str | Path, run_id: str) -> Path:
    # a plan of others may have any text for an id
    return Path(runs_dir) / FOLDER / re.sub(r"[^\w.+=-]", "+", run_id)
