"""Which runs may stand in one chart: those of one regime and data set, on a path or beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from roadmap.analysis.report.records import definition, definition_keys, flat
from roadmap.analysis.table import belongs, check_comparable, members
from roadmap.errors import RequestError
from roadmap.path import Step, compose_path

# In this order runs of one recipe are told apart until they differ in design and seed alone.
CONDITIONS = ("epochs", "batch_size", "pretrained", "recipe")
# Roadmaps of one regime and data set: with more it is a sweep, which is drawn by group.
MOST_ROADS = 4


@dataclass(frozen=True)
class Section:
    """Runs of one chart, unfinished ones too: the steps of a path, or without ``steps`` groups of any designs.

    ``conditions`` is what sets it apart from its neighbours, in words; ``notes`` what the reader has to know.
    """

    runs: pd.DataFrame
    steps: list[Step] | None = None
    conditions: str = ""
    notes: list[str] = field(default_factory=list)


def sections(runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Section]:
    """The charts of a page, each of runs that may be compared. Raises RequestError for a ``path=`` that is none."""
    found: list[Section] = []
    images = [
        json.dumps([definition(run).get(key) for key in ("data", "image_size", "precision")], default=str)
        for run in runs.to_dict("records")
    ]
    for (_, _, _), mine in runs.groupby([runs["regime"].astype(str), runs["data"].astype(str), images], sort=False):
        steps, notes = _path(mine, overrides, config_dirs)
        on_path = pd.Series(belongs(mine, steps) if steps else False, index=mine.index)
        parts = comparable_parts(mine[on_path])
        roads = [part for part in parts if steps and covered(part, steps) > 1][:MOST_ROADS]
        drawn = pd.Index([index for part in roads for index in part.index]) if roads else pd.Index([])
        names = _conditions(roads)
        found += [Section(part, steps, name, notes) for part, name in zip(roads, names, strict=True)]
        rest = mine[~mine.index.isin(drawn)]
        if len(rest):
            budgets = [part for _, part in rest.groupby(_budget(rest), sort=False)]
            names = _conditions(budgets)
            found += [Section(part, None, name, notes) for part, name in zip(budgets, names, strict=True)]
    return found


def _path(
    runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]
) -> tuple[list[Step] | None, list[str]]:
    """The steps of the path for the regime and data of these runs, or why there are none."""
    first = runs.iloc[0]
    given = dict(override.split("=", 1) for override in overrides)
    given |= {key: str(first[key]) for key in ("regime", "data")}
    try:
        return compose_path([f"{key}={value}" for key, value in given.items()], config_dirs), []
    except RequestError as error:
        if overrides:
            raise
        return None, [f"Drawn by group, since the path of these runs cannot be composed here: {error}."]


def covered(runs: pd.DataFrame, steps: Sequence[Step]) -> int:
    """How many of the steps have a run, finished or not."""
    return sum(bool(mine) for mine in members(runs, steps).values())


def comparable_parts(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """``runs`` in parts that differ in design, recipe and seed alone, the largest first.

    A recipe that was run in one way only belongs to every part, unless that way is one of the others' too.
    """
    parts = _parted(runs, CONDITIONS) if len(runs) else []
    return sorted(parts, key=len, reverse=True)


def _parted(runs: pd.DataFrame, keys: Sequence[str]) -> list[pd.DataFrame]:
    try:
        check_comparable(runs)
    except RequestError:
        if not keys:
            raise
    else:
        return [runs]
    values = pd.Series(
        [json.dumps(definition(run).get(keys[0]), sort_keys=True) for run in runs.to_dict("records")], index=runs.index
    )
    ways = values.groupby(runs["recipe"]).unique()
    varied = list(dict.fromkeys(str(value) for way in ways if len(way) > 1 for value in way))
    shared = [recipe for recipe, way in ways.items() if len(way) == 1 and way[0] not in varied]
    if not varied:
        return _parted(runs, keys[1:])
    parts = [runs[(values == value) | runs["recipe"].isin(shared)] for value in varied]
    return [part for some in parts for part in _parted(some, keys[1:])]


def _budget(runs: pd.DataFrame) -> list[str]:
    return [
        json.dumps([definition(run).get(key) for key in ("epochs", "batch_size", "pretrained")])
        for run in runs.to_dict("records")
    ]


def _conditions(parts: Sequence[pd.DataFrame]) -> list[str]:
    """What each part alone has, as ``epochs 30, recipe.optimizer.lr 0.004``; at most three of it."""
    if len(parts) < 2:
        return [""] * len(parts)
    own = [_shared([flat(definition(run)) for run in part.to_dict("records")]) for part in parts]
    keys = dict.fromkeys(key for values in own for key in values if not key.startswith("design."))
    differing = [key for key in keys if len({repr(values.get(key)) for values in own}) > 1]
    return [", ".join(f"{key} {values[key]}" for key in differing if key in values)[:120] for values in own]


def _shared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}


def group_labels(runs: pd.DataFrame) -> dict[str, str]:
    """A name for each group of runs that differ in nothing but the seed, by ``definition_keys``; no two are equal."""
    first = dict(zip(reversed(definition_keys(runs)), reversed(runs.to_dict("records")), strict=True))
    several = runs["recipe"].nunique() > 1
    named: dict[str, list[str]] = {}
    for key, run in reversed(first.items()):
        label = str(run.get("variant") or run.get("step") or run.get("run_id"))
        named.setdefault(f"{label}, recipe {run.get('recipe')}" if several else label, []).append(key)
    labels = {}
    for label, keys in named.items():
        rows = [flat(definition(first[key])) for key in keys]
        shared = _shared(rows)
        for key, row in zip(keys, rows, strict=True):
            own = [f"{name}={value}" for name, value in row.items() if name not in shared]
            labels[key] = " ".join([label, *own[:3]])
    return labels
