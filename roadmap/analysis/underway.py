"""How far the runs are that are running."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.runfolder import METRICS

TAIL = 8192  # bytes that surely hold the last whole line
SILENT = 3  # a run is taken for dead after so many times what its last epoch took, and a minute


def underway(runs: pd.DataFrame) -> list[str]:
    """A line for each run whose record says that it is running: its epoch, accuracy, the time left, or its silence."""
    return [_line(run) for run in runs[runs["status"] == "running"].to_dict("records")]


def _line(run: dict[Any, Any]) -> str:
    name = f"running: {run['regime']} {run['variant']} seed {run['seed']:g}"
    file = Path(run["path"]) / METRICS
    row = _last_row(file)
    if row is None:
        return f"{name}: in its first epoch of {run['epochs']:g}"
    silent = time.time() - file.stat().st_mtime
    line = f"{name}: epoch {row['epoch']} of {run['epochs']:g}, top-1 {row['top1']:.2f} %"
    seconds = row.get("seconds", 0.0)
    if silent > 60 + SILENT * seconds:
        return f"{line}; no word for {silent / 60:.0f} minutes: it may have been killed"
    return f"{line}, {_duration((run['epochs'] - row['epoch']) * seconds)} left"


def _last_row(file: Path) -> dict[str, Any] | None:
    """The last line that is whole."""
    try:
        with open(file, "rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - TAIL))
            lines = opened.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int) and isinstance(row.get("top1"), int | float):
            return row
    return None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
