"""The progress of running runs."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.formatting import duration
from roadmap.runs.exported import opened
from roadmap.runs.records import exported_part
from roadmap.runs.run_folder import METRICS
from roadmap.schema.summary import EpochRow
from roadmap.untrusted_io import parse_json
from roadmap.validation import converted

TAIL = 8192  # bytes that contain the last complete line
SILENT = 3  # a run silent for this many epochs plus a minute may have been killed


@dataclass(frozen=True)
class RunProgress:
    """A run's last line of metrics: top-1 in percent, seconds of that epoch and seconds since."""

    epoch: int
    epochs: float
    top1: float
    seconds: float
    silent: float

    @property
    def left(self) -> float:
        """Return the seconds that the remaining epochs take at the speed of the last one."""
        return (self.epochs - self.epoch) * self.seconds


def progress(folder: str | os.PathLike[str], epochs: float) -> RunProgress | None:
    """Return the progress of the run in a folder; None in its first epoch."""
    file = Path(folder) / METRICS
    part = exported_part(folder)
    row = _epoch_row(opened(part[0]).last_rows.get(part[1])) if part else _last_row(file)
    if row is None or row.top1 is None:
        return None
    silent = 0.0 if part else time.time() - file.stat().st_mtime
    return RunProgress(row.epoch, epochs, row.top1, row.seconds or 0.0, silent)


def in_words(done: RunProgress | None, epochs: float) -> str:
    """Return epoch, accuracy and time left as text."""
    if done is None:
        return f"in epoch 1 of {epochs:g}"
    return f"{reached(done)}, {duration(done.left)} left"


def reached(done: RunProgress) -> str:
    """Return epoch and accuracy as text."""
    return f"epoch {done.epoch} of {done.epochs:g}, top-1 {done.top1:.2f} %"


def running_lines(runs: pd.DataFrame) -> list[str]:
    """Return a line for each run recorded as running: epoch, accuracy and time left."""
    return [_line(run) for run in runs[runs["status"] == "running"].to_dict("records")]


def _line(run: dict[Any, Any]) -> str:
    epochs = run["epochs"]
    done = progress(run["path"], epochs)
    name = f"running: {run['regime']} {run['variant']} seed {run['seed']:g}"
    if done is not None and done.silent > 60 + SILENT * done.seconds:
        return f"{name}: {reached(done)}; no epoch for {done.silent / 60:.0f} minutes; it may have been killed"
    return f"{name}: {in_words(done, epochs)}"


def _last_row(file: Path) -> EpochRow | None:
    """Return the last complete line."""
    try:
        with open(file, "rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - TAIL))
            lines = opened.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(ValueError):
            if row := _epoch_row(parse_json(line)):
                return row
    return None


def _epoch_row(value: Any) -> EpochRow | None:
    """Return a line of metrics, or None if it has no accuracy."""
    try:
        row: EpochRow = converted(value, EpochRow)
    except ValueError:
        return None
    return row if row.top1 is not None else None
