"""The folder of a run, which stays readable if the process is killed at any moment."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
TIMES = ("images_per_second", "data_wait", "train_seconds", "seconds")  # metrics that differ between equal runs


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
        folder = cls.find(experiment) or cls(Path(experiment.settings.runs_dir) / folder_name(experiment))
        summary = folder.read_summary()
        if summary is None and not folder._is_unused():
            raise RequestError(
                f"{folder.path} has files but no readable {SUMMARY}; move it away or choose another runs_dir"
            )
        if summary is not None and summary.get("run_id") != experiment.run_id:
            raise RequestError(
                f"{folder.path} holds run {summary.get('run_id')}, not {experiment.run_id}; "
                "move it away or choose another runs_dir"
            )
        if summary is not None and experiment.settings.resume == "never":
            raise RequestError(f"{folder.path} exists already and resume=never; choose resume=auto or another runs_dir")
        try:
            (folder.path / ".hydra").mkdir(parents=True, exist_ok=True)
            folder.checkpoints.mkdir(exist_ok=True)
            for partial in folder._partials():
                partial.unlink(missing_ok=True)
            write_whole(folder.path / ".hydra" / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            write_whole(folder.path / ".hydra" / "overrides.yaml", yaml.safe_dump(list(overrides)))
        except (OSError, WorkError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.__cause__.strerror  # type: ignore[union-attr]
            raise RequestError(f"cannot write to {folder.path}: {reason}; choose another runs_dir") from error
        return folder

    def _is_unused(self) -> bool:
        """Whether it does not exist, or its process was killed before it wrote the first record."""
        if not self.path.is_dir():
            return True
        rest = {*self.path.iterdir()} - {self.path / ".hydra", *self._partials()}
        return not rest or (rest == {self.checkpoints} and not any(self.checkpoints.iterdir()))

    def _partials(self) -> list[Path]:
        """Partial files of a killed process."""
        return [partial for name in (SUMMARY, METRICS) for partial in self.path.glob(f".{name}.*")]

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary, or None if there is none or it cannot be read."""
        try:
            summary = parse_json((self.path / SUMMARY).read_text(encoding="utf-8"))
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
        """Append the line of one epoch."""
        with _clear_errors(self.path / METRICS), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Drop the lines after ``epochs`` epochs, which a resumed run writes again; return the others."""
        rows = [row for row in read_metrics(self.path / METRICS) if row["epoch"] <= epochs]
        write_whole(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
        return rows


def run_folders(runs_dir: str | Path) -> dict[str, RunFolder]:
    """Return the folder of each run directly under ``runs_dir`` by its run_id."""
    try:
        with os.scandir(runs_dir) as entries:
            return {entry.name.rpartition("-")[2]: RunFolder(Path(entry.path)) for entry in entries}
    except OSError:
        return {}


def folder_name(experiment: Experiment) -> str:
    """Return the name of a run's folder, such as ``nano-digits-gelu+kernel=k3-s0-1a2b3c4d5e``."""
    name, seed = experiment.data.name, f"s{experiment.seed}"
    return one_name(experiment.regime, name, experiment.variant, seed, experiment.run_id)


def one_name(*words: str) -> str:
    """Join words to a valid name of a file, with other characters than ``\\w.=+-`` replaced."""
    return "-".join(re.sub(r"[^\w.=+-]+", "+", word)[:80] for word in words)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the valid lines of a ``metrics.jsonl``; a killed process may leave the last one incomplete."""
    rows = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = parse_json(line)
                converted(row, EpochRow)
            except ValueError:
                continue
            rows.append(row)
    return rows


def timeless_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the lines without times, so that equal runs have equal lines."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in read_metrics(file)]


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
