"""The folder of a run, which stays readable if the process is killed at any moment, and its lock."""

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from roadmap.errors import RequestError, WorkError
from roadmap.schema.experiment import Experiment
from roadmap.schema.summary import EpochRow
from roadmap.untrusted_io import parse_json
from roadmap.validation import converted

SUMMARY, METRICS = "summary.json", "metrics.jsonl"


class RunFolder:
    """The folder of one run: ``.hydra/``, ``metrics.jsonl``, ``summary.json``, ``checkpoints/``."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def find(cls, experiment: Experiment) -> "RunFolder | None":
        """Return the folder under ``runs_dir`` that holds this run, under whichever step it was started."""
        found = sorted(Path(experiment.settings.runs_dir).glob(f"*-{experiment.run_id}"))
        return cls(found[0]) if found else None

    @classmethod
    def open(cls, experiment: Experiment, config: Mapping[str, Any], overrides: tuple[str, ...]) -> "RunFolder":
        """Return the run's folder, created if necessary. Raises RequestError if it holds something else."""
        words = experiment.regime, experiment.data.name, experiment.variant, f"s{experiment.seed}", experiment.run_id
        folder = cls.find(experiment) or cls(Path(experiment.settings.runs_dir) / one_name(*words))
        summary = folder.read_summary()
        if (folder.path / SUMMARY).exists() and (summary or {}).get("run_id") != experiment.run_id:
            raise RequestError(
                f"{folder.path / SUMMARY} is not a readable record of run {experiment.run_id}; "
                "move the folder away or choose another runs_dir"
            )
        if summary is not None and experiment.settings.resume == "never":
            raise RequestError(f"{folder.path} exists already and resume=never; choose resume=auto or another runs_dir")
        try:
            (folder.path / ".hydra").mkdir(parents=True, exist_ok=True)
            folder.checkpoints.mkdir(exist_ok=True)
            for name in (SUMMARY, METRICS):
                for partial in folder.path.glob(f".{name}.*"):  # of a killed process
                    partial.unlink(missing_ok=True)
            write_whole(folder.path / ".hydra" / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            write_whole(folder.path / ".hydra" / "overrides.yaml", yaml.safe_dump(list(overrides)))
        except OSError as error:
            raise RequestError(f"cannot write to {folder.path}: {error.strerror}; choose another runs_dir") from error
        return folder

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary, or None if there is none or it cannot be read."""
        try:
            summary = parse_json((self.path / SUMMARY).read_bytes())
        except (OSError, ValueError):
            return None
        return summary if isinstance(summary, dict) else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace the summary atomically."""
        write_whole(self.path / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")

    def update_summary(self, **changes: Any) -> dict[str, Any]:
        """Change some fields of the summary; return all of them."""
        summary = (self.read_summary() or {}) | changes
        self.write_summary(summary)
        return summary

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        with _clear_errors(self.path / METRICS), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Drop the lines after ``epochs`` epochs, which a resumed run writes again; return the others."""
        rows = [row for row in read_metrics(self.path / METRICS) if row["epoch"] <= epochs]
        write_whole(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
        return rows


def run_folders(runs_dir: str | Path) -> dict[str, RunFolder]:
    """Return the folder of each run directly under ``runs_dir`` by its run_id."""
    folders = Path(runs_dir).iterdir() if Path(runs_dir).is_dir() else ()
    return {folder.name.rpartition("-")[2]: RunFolder(folder) for folder in folders}


def finished_runs(experiments: Sequence[Experiment]) -> dict[str, tuple[dict[str, Any], RunFolder]]:
    """Return the summaries and folders of the runs that are finished, by run_id; lists ``runs_dir`` once."""
    settings, finished = experiments[0].settings, {}
    folders = run_folders(settings.runs_dir) if settings.resume == "auto" else {}
    for run_id in [experiment.run_id for experiment in experiments]:
        summary = (folders[run_id].read_summary() or {}) if run_id in folders else {}
        if summary.get("status") == "finished":
            finished[run_id] = summary, folders[run_id]
    return finished


def one_name(*words: str) -> str:
    """Join words to a name such as ``nano-digits-gelu+kernel=k3-s0-1a2b3c4d5e``: ``+`` replaces special characters."""
    return "-".join(re.sub(r"[^\w.=+-]+", "+", word)[:80] for word in words)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the valid lines of a ``metrics.jsonl``; a killed process may leave the last one incomplete."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError):
            row = parse_json(line)
            converted(row, EpochRow)
            rows.append(row)
    return rows


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file atomically: through a temporary file that is then renamed."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with _clear_errors(file):
        try:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _clear_errors(file: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into a WorkError that names the file."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot write {file}: {error.strerror}; free some space and run the same command again to resume, or "
            "choose another runs_dir"
        ) from error


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunLockedError(WorkError):
    """Another process is training the run."""


class RunLock:
    """The right to train a run, until ``release`` or the end of the process, however it ends.

    It is a lock (flock) on a file that stays. ``runs_dir`` must be on a file system whose locks hold across machines
    if several share it.
    """

    def __init__(self, runs_dir: str | Path, run_id: str):
        # the ids in other people's plans may hold any characters
        self.file = Path(runs_dir) / ".locks" / re.sub(r"[^\w.+=-]", "+", run_id)

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
                f"another process is training run {self.file.name} (lock held by {self.holder() or 'it'})"
            ) from None
        except OSError as error:
            raise RequestError(f"cannot write {self.file}: {error.strerror}; choose another runs_dir") from error

    def release(self) -> None:
        self.lock.release()

    def discard(self) -> None:
        """Unlock the run, and remove the file and folders that the lock created if nothing else is in them."""
        # while the lock is held, so that nobody else can hold it through the removed file
        self.file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.file.parent.rmdir()
            self.file.parent.parent.rmdir()
        self.release()

    def holder(self) -> str | None:
        """The process that is training the run now, such as ``process 4711 on node3``, or None."""
        with suppress(OSError), open(self.file, encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read() or "another process"
        return None
