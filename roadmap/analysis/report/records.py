"""Runs as the page holds them: columns of plain values, definitions without the seed, thinned learning curves."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

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
        return float(f"{value:.8g}") if math.isfinite(value) else None
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is pd.NaT else str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys; lists become their JSON text."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = plain(value)
    return found


def definition(run: Mapping[Hashable, Any]) -> dict[str, Any]:
    """What defines a run's result but its seed; empty for a run that does not say."""
    defined = run.get("definition")
    return {key: value for key, value in defined.items() if key != "seed"} if isinstance(defined, Mapping) else {}


def definition_keys(runs: pd.DataFrame) -> list[str]:
    """One text a run, equal for runs that differ in nothing but the seed."""
    return [
        json.dumps([run.get("regime"), definition(run)], sort_keys=True, default=str) for run in runs.to_dict("records")
    ]


def run_columns(runs: pd.DataFrame, folders: Sequence[str]) -> dict[str, Any]:
    """``columns``: field → a value a run, or ``{"same": value}``; ``definitions``, flat, and each run's among them."""
    rows = []
    for run in runs.to_dict("records"):
        kept = {str(key): value for key, value in run.items() if key not in ELSEWHERE}
        rows.append(flat(kept) | {"folder": short_path(str(run.get("path") or ""), folders)})
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    keys = definition_keys(runs)
    first = {key: flat(definition(run)) for key, run in reversed([*zip(keys, runs.to_dict("records"), strict=True)])}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return {
        "count": len(rows),
        "columns": columns,
        "definitions": [first[key] for key in numbers],
        "definition": [numbers[key] for key in keys],
    }


def _column(values: list[Any]) -> Any:
    same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
    return {"same": values[0]} if same else values


def short_path(path: str, folders: Sequence[str]) -> str:
    """A run's folder from the named one on: what lies above is nobody's business on a page that is passed on."""
    for folder in folders:
        base = Path(folder).resolve()
        if Path(path).resolve().is_relative_to(base):
            return (base.name / Path(path).resolve().relative_to(base)).as_posix() if base.name else path
    return path


def curves(history: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    """``grids``: lists of epochs; ``runs``: for each of ``runs`` its grid's number and a list a metric, or None.

    Curves of equally long runs share a grid of at most POINTS epochs, so that their mean is one of equal epochs; a
    curve's own last epoch is always kept. ``thinned`` says how many curves have lost points.
    """
    most = max(min(POINTS, ALL_POINTS // max(len(runs), 1)), FEWEST)
    by_run = dict(iter(history.groupby("run_id", sort=False))) if len(history) else {}
    grids: dict[tuple[int, ...], int] = {}
    found: list[Any] = []
    thinned = 0
    for run in runs.to_dict("records"):
        mine = by_run.get(run["run_id"])
        if mine is None:
            found.append(None)
            continue
        mine = mine.drop_duplicates("epoch", keep="last").sort_values("epoch")
        logged = [int(epoch) for epoch in mine["epoch"]]
        planned = run.get("epochs")
        last = max(logged[-1], int(planned) if isinstance(planned, int | float) and math.isfinite(planned) else 0)
        wanted = {*_grid(last, most), logged[-1]}
        kept = [index for index, epoch in enumerate(logged) if epoch in wanted]
        thinned += len(kept) < len(logged)
        grid = grids.setdefault(tuple(logged[index] for index in kept), len(grids))
        found.append([grid, *(_points(mine, metric, kept) for metric in METRICS)])
    return {"grids": [*map(list, grids)], "metrics": METRICS, "runs": found, "thinned": thinned, "points": most}


def _grid(last: int, most: int) -> list[int]:
    """At most so many of the epochs from 1 to ``last``, both among them."""
    if last <= most:
        return list(range(1, last + 1))
    return [1 + round(index * (last - 1) / (most - 1)) for index in range(most)]


def _points(history: pd.DataFrame, metric: str, kept: list[int]) -> list[float | None] | None:
    if metric not in history or history[metric].isna().all():
        return None
    values = pd.to_numeric(history[metric], errors="coerce").to_numpy()
    return [float(f"{values[index]:.5g}") if math.isfinite(values[index]) else None for index in kept]
