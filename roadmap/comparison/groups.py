"""Groups of runs that differ only in the seed: means over seeds, and each group's gap to the step before it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from roadmap.comparison.adaptive import with_sequential
from roadmap.runs.identity import SHARED, Parents, condition_keys, field_keys, group_keys
from roadmap.runs.sweep_plan import Sweep
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest, Sample, gaps, means
from roadmap.steps.path_file import paper_parents

if TYPE_CHECKING:
    # composing needs Hydra
    from roadmap.steps.path import Step

COLUMNS = (
    *("regime", "step", "variant", "recipe", "data", "epochs", "batch_size", "image_size", "precision"),
    *("design", "definition"),
)
COSTS = ("gmacs", "params_m", "activations_m")
# fields that distinguish groups of one variant, in the order in which they are added to their names
DISTINGUISHING = ("regime", "recipe", "epochs", "batch_size", "image_size", "precision")
MEASURED = ("top5", "images_per_second", "peak_memory_gb", "train_seconds")


class PaperPath:
    """The paper's path by the names of its steps, which may all have the same toggles."""

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        """The step before; for a toggled step, the step before with the same toggles, or else the step itself."""
        step, _, toggles = variant.partition(" ")
        before = paper_parents().get(step)
        if not toggles:
            return before
        toggled = f"{before} {toggles}"
        return toggled if toggled in variants else step

    def holds(self, variant: str) -> bool:
        """Whether the variant is a step with its own recipe."""
        return variant.split()[0] in paper_parents() and " recipe" not in variant


@dataclass(frozen=True)
class OwnPath(PaperPath):
    """A path of the user's own, given as the parent of each variant."""

    parents: Mapping[str, str | None]

    @classmethod
    def of(cls, steps: "Sequence[Step]") -> "OwnPath":
        """The path with these ``steps``; steps with the same design and recipe share the first one's variant."""
        first: dict[Any, str] = {}
        parents: dict[str, str | None] = {}
        variants: dict[str, str] = {}
        for step in steps:
            own = step.composed
            variant = variants[step.name] = first.setdefault((own.design, own.recipe), own.variant)
            parents.setdefault(variant, variants[step.parent] if step.parent else None)
        return cls(parents)

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        return self.parents.get(variant)

    def holds(self, variant: str) -> bool:
        return variant in self.parents or super().holds(variant)


@dataclass(frozen=True)
class Baseline(PaperPath):
    """Every variant is compared with this one."""

    variant: str

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        return self.variant


def summarise(
    runs: pd.DataFrame,
    path: Parents | None = None,
    test: GapTest = DEFAULT_TEST,
    plans: Sequence[Sweep] = (),
) -> pd.DataFrame:
    """One row per group of runs that differ only in the seed, in the paper's order, then by accuracy, best last.

    Over the finished runs: ``n`` seeds, ``top1``, the mean accuracy after the last epoch in percent, with ``top1_std``
    and the 95 % interval ``top1_low`` to ``top1_high``; mean ``top5``, ``images_per_second``, ``peak_memory_gb`` and
    ``train_seconds``. ``unfinished`` counts the other runs. ``gmacs``, ``params_m`` and ``activations_m`` are costs.
    ``parent`` is the variant before on ``path``, by default the paper's, under the same conditions; ``delta`` and the
    other columns of ``statistics.gaps`` are the gap to it. ``declared`` gaps are those that ``plans`` have both
    variants of; without plans, all.
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
    path = path or PaperPath()
    parents = _parent_rows(table, path)
    table["parent"] = [None if row is None else table["variant"].iloc[row] for row in parents]
    run_ids = runs["run_id"].groupby(code).agg(set).tolist()
    declared, family = declared_gaps(plans, path, run_ids, parents)
    found = gaps_to(parents, samples, test, declared, family)
    table = pd.concat([table, with_sequential(found, plans, run_ids, parents, samples, test, family)], axis=1)
    places = {name: place for place, name in enumerate(paper_parents())}
    order = {
        "regime": table["regime"],
        "place": table["step"].map(places).fillna(len(places)),
        "toggled": table["variant"] != table["step"],
        "top1": table["top1"],
    }
    order_of_rows = pd.DataFrame(order).sort_values([*order], kind="stable", na_position="first").index
    return table.loc[order_of_rows].reset_index(drop=True)


def accuracies(samples: Sequence[Sample]) -> pd.DataFrame:
    """The columns ``n``, ``top1``, ``top1_std``, ``top1_low``, ``top1_high`` and ``seeds``, one row per sample."""
    names = {"mean": "top1", "std": "top1_std", "low": "top1_low", "high": "top1_high"}
    table = means(samples).rename(columns=names)
    table["seeds"] = pd.Series([sorted(sample) for sample in samples], dtype=object)
    return table


def gaps_to(
    parents: Sequence[int | None],
    samples: Sequence[Sample],
    test: GapTest = DEFAULT_TEST,
    declared: Sequence[bool] | None = None,
    family: int = 0,
) -> pd.DataFrame:
    """The gap of each sample to its parent, given as a position in ``samples``, as in ``gaps``; NaN for None."""
    pairs = zip(samples, parents, strict=True)
    return gaps(
        [None if parent is None else (sample, samples[parent]) for sample, parent in pairs], test, declared, family
    )


def declared_gaps(
    plans: Sequence[Sweep], path: Parents, run_ids: Sequence[set[str]], parents: Sequence[int | None]
) -> tuple[list[bool] | None, int]:
    """Which gaps were declared before the runs, and how many are declared in all, whether run or not.

    ``run_ids`` are those of each group and ``parents`` the groups they are compared with. A plan declares the gaps of
    its variants to variants before them on the path. None without such a plan, and for a chosen baseline, which no plan
    names.
    """
    planned = [{run["run_id"] for run in plan.runs} for plan in plans]
    known = set().union(*run_ids)
    used = [(plan, ids) for plan, ids in zip(plans, planned, strict=True) if not ids.isdisjoint(known)]
    if not used or isinstance(path, Baseline):
        return None, 0
    declared = [
        parent is not None and any(not own.isdisjoint(ids) and not run_ids[parent].isdisjoint(ids) for _, ids in used)
        for own, parent in zip(run_ids, parents, strict=True)
    ]
    family = set()
    for plan, _ in used:
        variants = {run["variant"] for run in plan.runs}
        before = {variant: path.parent(variant, variants) for variant in variants}
        gaps_of_plan = [(variant, other) for variant, other in before.items() if other in variants and other != variant]
        family |= {(plan.header["regime"], plan.header["data"], *gap) for gap in gaps_of_plan}
    return (declared, len(family)) if any(declared) else (None, 0)


def group_names(groups: pd.DataFrame) -> list[str]:
    """Return a name for each row of ``groups``: its variant, and the fields in which rows of one variant differ."""
    by_variant = groups.groupby("variant")
    fields = [key for key in DISTINGUISHING if by_variant[key].nunique().max() > 1]
    words = [("" if key in ("regime", "recipe") else f"{key} ") + groups[key].astype(str) for key in fields]
    return [", ".join(parts) for parts in zip(groups["variant"], *words, strict=True)]


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
    recipes, designs = [*table["recipe"]], [*table["design"]]
    found: list[int | None] = []
    for row, (regime, variant, condition, shared_key) in enumerate(groups):
        parent = path.parent(variant, variants)
        rows = rows_of.get((regime, parent, condition)) or [
            other
            for other in rows_of.get((regime, parent, shared_key), [])
            if recipes[other] != recipes[row] and designs[other] == designs[row]
        ]
        found.append(rows[0] if len(rows) == 1 and rows[0] != row else None)
    return found
