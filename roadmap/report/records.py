"""Runs as the page holds them: columns of plain values, definitions without the seed, thinned learning curves."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadmap import flatten_dict
from roadmap.runs.reading import definition_keys

METRICS = ("top1", "val_loss", "train_loss")
POINTS, ALL_POINTS = 120, 150_000  # of a curve; of a metric in all curves
FEWEST = 12
# A run's fields that the page holds elsewhere, or that repeat what the definition says.
ELSEWHERE = ("definition", "design", "path", "corrupt_files")


def plain(value: Any) -> Any:
    """A value that JSON has: numbers to 8 digits, None for what is no finite number, text of anything else."""
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):  # numpy's
        value = value.item()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else float(f"{value:.8g}")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is pd.NaT else str(value)


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by dotted keys; lists are their JSON text."""
    return {key: plain(value) for key, value in flatten_dict.flatten_dict(record).items()}


def definitions(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What defines each run's result but its seed."""
    return [{key: value for key, value in defined.items() if key != "seed"} for defined in runs["definition"]]


def run_columns(runs: pd.DataFrame, folders: Sequence[str]) -> dict[str, Any]:
    """``columns``: field → a value a run, or ``{"same": value}``; ``definitions``, flat, and each run's among them."""
    rows = []
    for run in runs.to_dict("records"):
        kept = {str(key): value for key, value in run.items() if key not in ELSEWHERE}
        rows.append(flat(kept) | {"folder": short_path(str(run.get("path") or ""), folders)})
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    keys = definition_keys(runs)
    first = dict(zip(reversed(keys), reversed(definitions(runs)), strict=True))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return {
        "count": len(rows),
        "columns": columns,
        "definitions": [flat(first[key]) for key in numbers],
        "definition": [numbers[key] for key in keys],
    }


def _column(values: list[Any]) -> Any:
    same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
    return {"same": values[0]} if same else values


def short_path(path: str, folders: Sequence[str]) -> str:
    """A run's folder from the named one on: what lies above is nobody's business on a page that is passed on."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return (Path(folder).resolve().name / Path(path).relative_to(folder)).as_posix()
    return path


def curves(history: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    """``grids``: lists of epochs; ``runs``: for each of ``runs`` its grid's number and a list a metric, or None.

    Curves of equally long runs share a grid of at most POINTS epochs, so that their mean is one of equal epochs; a
    curve's own last epoch is always kept. ``thinned`` says how many curves have lost points.
    """
    most = max(min(POINTS, ALL_POINTS // max(len(runs), 1)), FEWEST)
    history = history if len(history) else pd.DataFrame(columns=["run_id", "epoch"])
    history = history.drop_duplicates(["run_id", "epoch"], keep="last").sort_values("epoch", kind="stable")
    rows_of: dict[Any, Any] = dict(history.groupby("run_id", sort=False).indices) if len(history) else {}
    epochs = history["epoch"].to_numpy(dtype=int, na_value=0)
    logged = [_rounded(history[metric]) if metric in history else None for metric in METRICS]
    grids: dict[tuple[int, ...], int] = {}
    found: list[Any] = []
    thinned = 0
    for run_id, planned in zip(runs["run_id"], runs["epochs"].fillna(0), strict=True):
        rows = rows_of.get(run_id)
        if rows is None:
            found.append(None)
            continue
        own = epochs[rows]
        wanted = [*_grid(max(int(planned), int(own[-1])), most), own[-1]]
        kept = rows[np.isin(own, wanted)]
        thinned += len(kept) < len(rows)
        grid = grids.setdefault(tuple(epochs[kept].tolist()), len(grids))
        found.append([grid, *(values and [values[row] for row in kept] for values in logged)])
    return {"grids": [*map(list, grids)], "metrics": METRICS, "runs": found, "thinned": thinned, "points": most}


@cache
def _grid(last: int, most: int) -> list[int]:
    """At most so many of the epochs from 1 to ``last``, both among them."""
    if last <= most:
        return list(range(1, last + 1))
    return [1 + round(index * (last - 1) / (most - 1)) for index in range(most)]


def _rounded(values: pd.Series) -> list[float | None]:
    """To 5 digits, which a curve on a screen does not show the end of."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return [float(f"{number:.5g}") if math.isfinite(number) else None for number in numbers]
