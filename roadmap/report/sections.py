"""Which runs may stand in one chart: those of one regime and data set, on a path or beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from roadmap.comparison.baseline_step import OwnPath, PaperPath
from roadmap.comparison.step_table import belongs, members
from roadmap.errors import RequestError
from roadmap.report.records import definitions, flat
from roadmap.runs.identity import EVERYWHERE, Parents, check_comparable, differences, unbridged_recipes
from roadmap.runs.reading import definition_keys
from roadmap.steps.path import Step
from roadmap.steps.rerun_commands import composed_path

# In this order runs of one recipe are told apart until they differ in design and seed alone.
BUDGET = ("epochs", "batch_size", "pretrained")
CONDITIONS = (*BUDGET, "recipe")
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
    places = [runs["regime"].astype(str), runs["data"].astype(str)]
    found: list[Section] = []
    for _, here in runs.groupby(places, sort=False):
        charts: list[Section] = []
        for _, mine in here.groupby(_conditions_of(here, EVERYWHERE), sort=False):
            charts += _of_alike(mine, overrides, config_dirs)
        names = _conditions([chart.runs for chart in charts])
        found += [replace(chart, conditions=name) for chart, name in zip(charts, names, strict=True)]
    return found


def _of_alike(runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Section]:
    """The charts of runs on the same images."""
    steps, notes = _path(runs, overrides, config_dirs)
    on_path = pd.Series(belongs(runs, steps) if steps else False, index=runs.index)
    roads = _roads(comparable_parts(runs[on_path]), steps or [])
    drawn = {index for part in roads for index in part.index}
    rest = runs[[index not in drawn for index in runs.index]]
    budgets = rest.groupby(_conditions_of(rest, BUDGET), sort=False)
    found = [Section(part, steps, notes=notes + _unequal(part, OwnPath.of(steps or []))) for part in roads]
    return found + [Section(part, notes=notes + _unequal(part, PaperPath())) for _, part in budgets]


def _path(
    runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]
) -> tuple[list[Step] | None, list[str]]:
    """The steps of the path for the regime and data of these runs, or why there are none."""
    first = runs.iloc[0]
    given = dict(override.split("=", 1) for override in overrides)
    given |= {key: str(first[key]) for key in ("regime", "data")}
    try:
        return composed_path(tuple(f"{key}={value}" for key, value in given.items()), tuple(config_dirs)), []
    except RequestError as error:
        if overrides:
            raise
        return None, [f"Drawn by group, since the path of these runs cannot be composed here: {error}."]


def _unequal(runs: pd.DataFrame, path: Parents) -> list[str]:
    """A note on each condition in which finished runs of one chart differ all the same."""
    finished = runs[runs["status"] == "finished"]
    found = differences(finished, CONDITIONS)
    apart = unbridged_recipes(finished, runs, path)
    found += [apart] if apart else []
    return [f"These runs differ in {each}: a gap between two bars may be due to that." for each in found]


def _roads(parts: list[pd.DataFrame], steps: Sequence[Step]) -> list[pd.DataFrame]:
    """Of ``parts`` those with two steps or more, and half as many at least as the best; none if they are too many."""
    covered = [sum(bool(mine) for mine in members(part, steps).values()) for part in parts]
    fewest = max(max(covered, default=0) / 2, 2)
    roads = [part for part, count in zip(parts, covered, strict=True) if count >= fewest]
    return roads if len(roads) <= MOST_ROADS else []


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
    values = pd.Series(_conditions_of(runs, keys[:1]), index=runs.index)
    ways = values.groupby(runs["recipe"]).unique()
    varied = list(dict.fromkeys(str(value) for way in ways if len(way) > 1 for value in way))
    shared = [recipe for recipe, way in ways.items() if len(way) == 1 and way[0] not in varied]
    if not varied:
        return _parted(runs, keys[1:])
    parts = [runs[(values == value) | runs["recipe"].isin(shared)] for value in varied]
    return [part for some in parts for part in _parted(some, keys[1:])]


def _conditions_of(runs: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """One text a run, equal for runs whose definitions are equal in ``keys``."""
    return [json.dumps([defined.get(key) for key in keys], sort_keys=True) for defined in runs["definition"]]


def _conditions(parts: Sequence[pd.DataFrame]) -> list[str]:
    """What each part alone has, as ``epochs 30, recipe.optimizer.lr 0.004``; at most three of it."""
    if len(parts) < 2:
        return [""] * len(parts)
    own = [_shared([flat(defined) for defined in definitions(part)]) for part in parts]
    # what varies within some part sets none apart
    keys = [key for key in own[0] if all(key in values for values in own) and not key.startswith("design.")]
    differing = [key for key in keys if len({repr(values.get(key)) for values in own}) > 1]
    return [", ".join(f"{key} {values[key]}" for key in differing)[:120] for values in own]


def _shared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}


def group_labels(runs: pd.DataFrame) -> dict[bytes, str]:
    """A name for each group of runs that differ in nothing but the seed, by ``definition_keys``; no two are equal."""
    firsts = runs[~pd.Series(definition_keys(runs), index=runs.index).duplicated()]
    several = runs["recipe"].nunique() > 1
    names = firsts["variant"] + (", recipe " + firsts["recipe"].astype(str) if several else "")
    labels = {}
    for name, alike in firsts.groupby(names, sort=False):
        rows = [flat(defined) for defined in definitions(alike)]
        shared = _shared(rows)
        for key, row in zip(definition_keys(alike), rows, strict=True):
            own = [f"{field}={value}" for field, value in row.items() if field not in shared]
            labels[key] = " ".join([str(name), *own[:3]])
    return labels
