"""Logged runs as pandas tables. Reads records only; never imports torch."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.errors import RequestError
from roadmap.runfolder import METRICS, SUMMARY, read_metrics


def load_runs(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """One row a run under ``folders``, searched recursively: the fields of its summary.json, and its ``path``.

    Accuracies in percent, times in seconds, memory in GiB, MACs and parameters ×10⁹ and ×10⁶. A summary that cannot be
    read is named in a warning and skipped; of two copies of a run the one ended last stays. Raises RequestError for a
    folder that does not exist.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for path in _run_folders(folders):
        try:
            summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
            run_id = summary["run_id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"skipped {path / SUMMARY}: {error}", stacklevel=2)
            continue
        other = summaries.get(run_id)
        if other is None or (summary.get("ended") or "") > (other.get("ended") or ""):
            summaries[run_id] = summary | {"path": str(path)}
    return pd.DataFrame(list(summaries.values()))


def load_history(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """One row a run and epoch: the fields of metrics.jsonl, with the run's id, variant, step and seed."""
    runs = load_runs(folders)
    rows = []
    for run in runs.to_dict("records"):
        mark = {key: run.get(key) for key in ("run_id", "variant", "step", "seed")}
        rows += [mark | row for row in read_metrics(Path(run["path"]) / METRICS)]
    return pd.DataFrame(rows)


def _run_folders(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    for folder in [folders] if isinstance(folders, str | os.PathLike) else folders:
        if not Path(folder).is_dir():
            raise RequestError(f"no folder {folder}")
        for path, below, files in os.walk(folder):
            below[:] = sorted(name for name in below if not name.startswith(".") and name != "checkpoints")
            if SUMMARY in files:
                yield Path(path)
