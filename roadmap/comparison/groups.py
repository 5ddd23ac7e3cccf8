"""Groups of runs that differ only in the seed: means over seeds, and each group's gap to its parent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadmap.comparison.baseline_step import PaperPath
from roadmap.comparison.statistics import Sample, gaps, means
from roadmap.runs.identity import SHARED, Parents, condition_keys, field_keys, group_keys
from roadmap.steps.path_file import paper_parents

COLUMNS = (
    *("regime", "step", "variant", "recipe", "data", "epochs", "batch_size", "image_size", "precision"),
    *("design", "definition"),
)
COSTS = ("gmacs", "params_m", "activations_m")
# fields that distinguish groups of one variant, in the order in which they are added to their names
DISTINGUISHING = ("regime", "recipe", "epochs", "batch_size", "image_size", "precision")
MEASURED = ("top5", "images_per_second", "peak_memory_gb", "train_seconds")


def summarise(runs: pd.DataFrame, path: Parents | None = None) -> pd.DataFrame:
    """One row per group of runs that differ only in the seed, in the paper's order, then by accuracy, best last.

    Over the finished runs: ``n`` seeds, ``top1``, the mean accuracy after the last epoch in percent, with ``top1_std``
    and the 95 % interval ``top1_low`` to ``top1_high``; mean ``top5``, ``images_per_second``, ``peak_memory_gb`` and
    ``train_seconds``. ``unfinished`` counts the other runs. ``gmacs``, ``params_m`` and ``activations_m`` are costs.
    ``parent`` is the variant before on ``path``, by default the paper's, under the same conditions; ``delta`` and the
    other columns of ``statistics.gaps`` are the gap to it.
    """
    runs = runs.reset_index(drop=True)
    code, keys = pd.factorize(pd.Series(group_keys(runs["definition"]), dtype=object))
    firsts = np.unique(code, return_index=True)[1]
    finished = (runs["status"] == "finished").to_numpy() & runs["top1"].notna().to_numpy()
    samples: list[dict[int, float]] = [{} for _ in keys]
    for group, seed, top1 in zip(code[finished], runs["seed"][finished], runs["top1"][finished], strict=True):
        samples[group][int(seed) if seed == seed else -1 - len(samples[group])] = top1
    table = runs.loc[firsts, [*COLUMNS, *COSTS]].reset_index(drop=True)
    measured = runs.loc[finished, [*MEASURED]].astype(float).groupby(code[finished]).mean()
    table = pd.concat([table, accuracies(samples), measured.reindex(range(len(table)))], axis=1)
    table["unfinished"] = np.bincount(code[~finished], minlength=len(table))
    parents = _parent_rows(table, path or PaperPath())
    table["parent"] = [None if row is None else table["variant"].iloc[row] for row in parents]
    table = pd.concat([table, gaps_to(parents, samples)], axis=1)
    return table.loc[_order(table)].reset_index(drop=True)


def accuracies(samples: Sequence[Sample]) -> pd.DataFrame:
    """The columns ``n``, ``top1``, ``top1_std``, ``top1_low``, ``top1_high`` and ``seeds``, one row per sample."""
    names = {"mean": "top1", "std": "top1_std", "low": "top1_low", "high": "top1_high"}
    table = means(samples).rename(columns=names)
    table["seeds"] = pd.Series([sorted(sample) for sample in samples], dtype=object)
    return table


def gaps_to(parents: Sequence[int | None], samples: Sequence[Sample]) -> pd.DataFrame:
    """The gap of each sample to its parent, given as a position in ``samples``; NaN for None."""
    return gaps(
        [None if parent is None else (sample, samples[parent]) for sample, parent in zip(samples, parents, strict=True)]
    )


def group_names(groups: pd.DataFrame) -> list[str]:
    """Return a name for each row of ``groups``: its variant, and what distinguishes it from others of that variant.

    Rows that differ in none of regime, recipe, epochs and the like are numbered.
    """
    names = groups["variant"].astype(str)
    for key in DISTINGUISHING:
        twice = names.duplicated(keep=False)
        if twice.any() and groups[key].nunique() > 1:
            word = groups[key].astype(str) if key in ("regime", "recipe") else key + " " + groups[key].astype(str)
            names = names.where(~twice, names + ", " + word)
    number = names.groupby(names).cumcount() + 1
    return list(names.where(~names.duplicated(keep=False), names + " (" + number.astype(str) + ")"))


def seeds_words(counts: pd.Series) -> str:
    """Return how many seeds means are over, in words."""
    low, high = int(counts.min()), int(counts.max())
    if high == 1:
        return "one seed each"
    return f"mean over {low} to {high} seeds" if low < high else f"mean over {high} seeds"


def _parent_rows(table: pd.DataFrame, path: Parents) -> list[int | None]:
    """The position of each group's parent, if there is one under the same conditions.

    Where the recipe is the change, the parent has the same design, data, image size and precision.
    """
    variants = set(table["variant"])
    rows_of: dict[tuple[str, str | None, bytes], list[int]] = {}
    conditions, shared = condition_keys(table["definition"]), field_keys(table["definition"], SHARED)
    groups = [*zip(table["regime"], table["variant"], conditions, shared, strict=True)]
    for row, (regime, variant, *keys) in enumerate(groups):
        for key in keys:
            rows_of.setdefault((regime, variant, key), []).append(row)
    changes = [*zip(table["recipe"], table["design"], strict=True)]
    found: list[int | None] = []
    for row, (regime, variant, condition, shared_key) in enumerate(groups):
        parent = path.parent(variant, variants)
        rows = rows_of.get((regime, parent, condition)) or [
            other
            for other in rows_of.get((regime, parent, shared_key), [])
            if _only_recipe_differs(changes[other], changes[row])
        ]
        found.append(rows[0] if len(rows) == 1 and rows[0] != row else None)
    return found


def _only_recipe_differs(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one[0] != other[0] and one[1] == other[1]


def _order(table: pd.DataFrame) -> list[int]:
    steps = {name: place for place, name in enumerate(paper_parents())}
    place = table["step"].map(steps).fillna(len(steps))
    toggled = table["variant"] != table["step"]
    keys = {"regime": table["regime"], "place": place, "toggled": toggled, "top1": table["top1"]}
    return list(pd.DataFrame(keys).sort_values([*keys], kind="stable", na_position="first").index)
