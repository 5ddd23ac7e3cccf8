"""The runs of a report as JSON values: rows of the table, what differs between runs, learning curves."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadmap.comparison.run_diff import CODE, ENVIRONMENT, RESULT
from roadmap.formatting import flatten_dict

METRICS = {"top1": "top-1 accuracy (%)", "val_loss": "validation loss", "train_loss": "training loss"}
MAX_POINTS, MAX_ALL_POINTS, MIN_POINTS = 120, 150_000, 12  # of a curve, and of a metric in all curves
# Field of a run -> header of its column, and the format of its numbers.
COLUMNS = {
    "status": ("status", ""),
    "regime": ("regime", ""),
    "data": ("data", ""),
    "variant": ("variant", ""),
    "recipe": ("recipe", ""),
    "seed": ("seed", ".0f"),
    "epochs": ("epochs", ".0f"),
    "top1": ("top-1 (%)", ".2f"),
    "top5": ("top-5 (%)", ".2f"),
    "gmacs": ("GMACs", ".4g"),
    "params_m": ("params (M)", ".2f"),
    "images_per_second": ("images/s", ".0f"),
    "peak_memory_gb": ("memory (GiB)", ".2f"),
    "train_seconds": ("training (s)", ".0f"),
    "device": ("device", ""),
    "ended": ("ended (UTC)", ""),
    "name": ("name", ""),
    "notes": ("notes", ""),
    "error": ("error", ""),
    "run_id": ("run", ""),
    "folder": ("folder", ""),
}


def json_value(value: Any) -> Any:
    """Return a value of a record for JSON: None if it is missing or not finite, lists and objects as text."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if pd.isna(value) or value in (float("inf"), float("-inf")):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return f"{value:.8g}" if isinstance(value, float) else value


def run_table(runs: pd.DataFrame, folders: Sequence[str]) -> dict[str, Any]:
    """The cells of the table of all runs as text, without columns that are empty: ``keys``, ``titles``, ``rows``."""
    shown = runs.assign(folder=[short_path(str(path), folders) for path in runs["path"]])
    shown["ended"] = [time[:16].replace("T", " ") if isinstance(time, str) else None for time in runs["ended"]]
    columns = {name: [_cell(value, COLUMNS[name][1]) for value in shown[name]] for name in COLUMNS if name in shown}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    titles = [COLUMNS[name][0] for name in columns]
    return {"keys": [*columns], "titles": titles, "rows": [list(row) for row in zip(*columns.values(), strict=True)]}


def _cell(value: Any, form: str) -> str:
    return "" if pd.isna(value) else format(value, form) if form else str(value)


def short_path(path: str, folders: Sequence[str]) -> str:
    """A run's folder from the named one on, so that a page that is passed on does not show what lies above."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return (Path(folder).resolve().name / Path(path).relative_to(folder)).as_posix()
    return path


def varying_fields(runs: pd.DataFrame) -> dict[str, dict[str, list[Any]]]:
    """By kind, as in `roadmap diff`, the fields that are not equal in all runs, each with its values by run."""
    records = {"Config": [*runs["definition"]]}
    for kind, names in {"Code version": CODE, "Environment": ENVIRONMENT, "Result": RESULT}.items():
        records[kind] = runs[[name for name in names if name in runs]].to_dict("records")
    found = {kind: _varying(rows) for kind, rows in records.items()}
    return {kind: fields for kind, fields in found.items() if fields}


def _varying(records: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    rows = [{key: json_value(value) for key, value in flatten_dict(record).items()} for record in records]
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    return {name: values for name, values in columns.items() if len({(type(value), value) for value in values}) > 1}


def curves(history: pd.DataFrame, runs: pd.DataFrame) -> list[dict[str, list[float | None]] | None]:
    """Return the learning curves of each of ``runs`` as lists of epochs and metrics; None if a run has none.

    Long curves are thinned; the last epoch always stays.
    """
    found = {}
    if len(history):
        points = max(min(MAX_POINTS, MAX_ALL_POINTS // len(runs)), MIN_POINTS)
        kept = _thinned(history, runs, points)
        columns = {"epoch": kept["epoch"].tolist()}
        columns |= {metric: [_rounded(value) for value in kept[metric]] for metric in METRICS if metric in kept}
        for run_id, rows in kept.groupby("run_id", sort=False).indices.items():
            found[run_id] = {name: [values[row] for row in rows] for name, values in columns.items()}
    return [found.get(run_id) for run_id in runs["run_id"]]


def _thinned(history: pd.DataFrame, runs: pd.DataFrame, points: int) -> pd.DataFrame:
    """Every nth evaluated epoch of long histories, and the last; of an epoch that was logged twice the later row."""
    history = history.drop_duplicates(["run_id", "epoch"], keep="last").sort_values("epoch", kind="stable")
    if "top1" in history and history["top1"].notna().any():
        history = history[history["top1"].notna()]
    epoch = history["epoch"].fillna(0).astype(int)
    last = epoch.groupby(history["run_id"]).transform("max")
    planned = history["run_id"].map(runs.set_index("run_id")["epochs"]).fillna(0)
    rows = history.groupby("run_id")["run_id"]
    evaluated = rows.transform("size") / last  # a fraction
    stride = np.ceil(np.maximum(planned, last) * evaluated / points).astype(int)
    return history.assign(epoch=epoch)[(rows.cumcount() % stride == 0) | (epoch == last)]


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
