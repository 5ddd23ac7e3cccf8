"""The trained designs of a design space, averaged over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.identity import check_comparable, group_keys
from roadmap.runs.select import evaluated

COSTS = {"gmacs": "GMACs", "params": "parameters (millions)"}
MOST = 6  # spaces in one chart


@dataclass(frozen=True)
class DesignSample:
    """``designs`` has one row per design: ``key``, ``variant``, ``design``, mean ``error`` over its ``seeds`` after the
    last epoch in percent, ``gmacs`` and ``params`` (millions). ``missing`` counts designs without a finished run.

    ``strata`` holds each design's class of cost; all classes have the same weight. Unless normalised, there is one.
    """

    name: str
    designs: pd.DataFrame
    missing: int
    strata: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """The error of each design in percent."""
        return self.designs["error"].to_numpy(float)


def design_sample(name: str, runs: pd.DataFrame) -> DesignSample:
    """The designs of ``runs``. Raises RequestError if no run has finished."""
    keys = pd.Series(group_keys(runs["definition"]), index=runs.index)
    done = (runs["status"] == "finished") & runs["top1"].notna()
    if not done.any():
        raise RequestError(f"no run of {name} has finished")
    groups = runs[done].assign(key=keys).groupby("key", sort=False)
    designs = groups.agg(
        variant=("variant", "first"),
        design=("design", "first"),
        error=("top1", "mean"),
        seeds=("seed", "nunique"),
        gmacs=("gmacs", "first"),
        params=("params_m", "first"),
    ).reset_index()
    designs["error"] = 100 - designs["error"]
    return DesignSample(name, designs, keys.nunique() - len(designs), np.zeros(len(designs), int))


def check_same_training(runs: pd.DataFrame) -> None:
    """Raise RequestError, naming what differs, unless all finished runs were trained and evaluated in the same way."""
    # as one regime, so that the settings of a recipe must be equal in all regimes
    check_comparable(runs[runs["status"] == "finished"].assign(regime=""), one_recipe=True)


def split(runs: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    """The runs by the value of a field (``kernel``, ``design.kernel``) or an expression, in the order of the values.

    Raises RequestError for an invalid expression.
    """
    values = evaluated(runs, by, "--by")
    if not isinstance(values, pd.Series):
        raise RequestError(f'--by "{by}" is the same for all runs; name a field, as in --by kernel')
    texts = values.map(lambda value: "-".join(map(str, value)) if isinstance(value, list) else value)
    name = by.removeprefix("design.")
    groups = texts.groupby(texts, dropna=False)
    if texts.dtype == bool:
        return {(by if value else f"not ({by})"): runs.loc[rows] for value, rows in groups.groups.items()}
    return {f"{name}={value}": runs.loc[rows] for value, rows in groups.groups.items()}


def normalised(samples: Sequence[DesignSample], cost: str) -> list[DesignSample]:
    """The samples restricted to their common range of a cost, with equal weights for all classes of cost.

    This removes differences in error that are due to cost (arXiv:1905.13214, section 3.3), as pycls does. Raises
    RequestError for a single sample, and for samples without a common range.
    """
    if cost not in COSTS:
        raise RequestError(f"unknown --normalise '{cost}' (choose {' or '.join(COSTS)})")
    if len(samples) < 2:
        raise RequestError("--normalise needs at least two spaces (got 1); name more folders or group runs with --by")
    costs = [each.designs[cost].to_numpy(float) for each in samples]
    low, high = max(values.min() for values in costs), min(values.max() for values in costs)
    shared = [(values >= low) & (values <= high) for values in costs]
    number = min(10, int(np.sqrt(min(inside.sum() for inside in shared))))
    edges = np.linspace(low, high, number + 1)[1:-1] if number else np.array([])
    classes = [np.digitize(values, edges) for values in costs]
    common = sorted(set.intersection(*(set(c[inside]) for c, inside in zip(classes, shared, strict=True))))
    if not common:
        ranges = [f"{p.name} {v.min():.4g} to {v.max():.4g}" for p, v in zip(samples, costs, strict=True)]
        raise RequestError(
            f"--normalise {cost} needs spaces with a common range of {COSTS[cost]} (got {', '.join(ranges)})"
        )
    found = []
    for each, own, inside in zip(samples, classes, shared, strict=True):
        kept = inside & np.isin(own, common)
        found.append(DesignSample(each.name, each.designs[kept].reset_index(drop=True), each.missing, own[kept]))
    return found


def varied(designs: pd.DataFrame) -> dict[str, list[Any]]:
    """The values of each field in which designs differ, by the field's name; ``depths`` by stage."""
    columns: dict[str, list[Any]] = {}
    for field in designs["design"].iloc[0]:
        values = [design.get(field) for design in designs["design"]]
        if field == "depths":
            columns |= {
                f"blocks in stage {stage}": [*column] for stage, column in enumerate(zip(*values, strict=True), 1)
            }
        else:
            columns[field] = values
    return {field: values for field, values in columns.items() if len(set(values)) > 1}


def shared_designs(samples: Sequence[DesignSample]) -> int:
    """The number of designs in more than one sample."""
    counts = pd.concat([each.designs["key"] for each in samples]).value_counts()
    return sum(count > 1 for count in counts)
