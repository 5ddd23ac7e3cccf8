"""What each change of a path is worth, given the others: leave-one-out, add-one-in, Shapley values, interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from roadmap.attribution import shapley
from roadmap.attribution.change_subsets import SubsetTable, beginnings
from roadmap.attribution.interactions import Interactions, interactions_of
from roadmap.errors import RequestError
from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.runs.identity import check_comparable, check_equally_long
from roadmap.statistics.gaps import Sample, gaps
from roadmap.steps.path_file import paper_parents

SIDES = {"loo": "leave-one-out", "aoi": "add-one-in"}
ENDINGS = ("", "_low", "_high", "_n", "_p_holm")  # of the columns of a gap


@dataclass(frozen=True)
class Attribution:
    """``table`` has one row per change.

    ``change``, ``label``, ``section``; what it adds to ``gmacs`` (×10⁹) and ``params_m`` (×10⁶) on the ``_path``, to
    all others (``_loo``), to none (``_aoi``), and as its Shapley value (``_shapley``); ``loo_with`` and ``aoi_with``:
    the changes that are removed or added with it. With runs, in percentage points of top-1: ``loo`` and ``aoi`` with
    their ``_low``, ``_high``, ``_n``, ``_p_holm`` as in ``statistics.gaps``; ``shapley`` with the fields of
    ``Estimate``; and the ``paper``'s gap.

    ``runs`` are the finished runs of these sets, ``unfinished`` the number of others. The Shapley values are from
    ``used_runs`` runs: from all orders if every set has been run (``whole``), otherwise from ``used_orders`` of the
    ``planned_orders`` of sweeps, those of which every set has been run. ``drawn`` is whether these are a random sample,
    ``control_variate`` whether a model of the others was subtracted from each.
    """

    sets: SubsetTable
    table: pd.DataFrame
    feasible_orders: float
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: Mapping[int, Sample] = field(default_factory=dict)
    interactions: Interactions | None = None
    unfinished: int = 0
    planned_orders: int = 0
    used_orders: int = 0
    drawn: bool = True
    used_runs: int = 0
    whole: bool = False
    control_variate: bool = False

    @property
    def mac_unit(self) -> tuple[float, str]:
        """The factor from GMACs to a readable unit, and the name of that unit."""
        large = self.sets.gmacs[[0, -1]].max() >= 0.1
        return (1.0, "GFLOPs (MACs)") if large else (1000.0, "MFLOPs (MACs)")


def count(sets: SubsetTable) -> Attribution:
    """Return the exact attribution of GMACs and parameters, without runs."""
    steps = sets.subsets.changes
    table = pd.DataFrame({"change": step.name, "label": step.label, "section": step.section} for step in steps)
    path = beginnings(range(len(steps)))
    for side, pairs in sets.pairs.items():
        moved = [sets.subsets.names(one ^ other) for one, other in pairs]
        table[f"{side}_with"] = [
            " ".join(name for name in names if name != step.name) for step, names in zip(steps, moved, strict=True)
        ]
    for name in ("gmacs", "params_m"):
        values = getattr(sets, name)
        table[f"{name}_path"] = np.diff(values[path]) if sets.feasible[path].all() else np.nan
        for side, pairs in sets.pairs.items():
            table[f"{name}_{side}"] = values[pairs] @ [1, -1]
        table[f"{name}_shapley"] = shapley.exact(values)
    return Attribution(sets, table, shapley.orders(sets.feasible))


def attribute(
    runs: pd.DataFrame,
    sets: SubsetTable,
    headers: Sequence[Mapping[str, Any]],
    regime: str,
    steps: Sequence[tuple[str, str]],
    control_variate: bool = False,
) -> Attribution:
    """Return the attribution of accuracy and of costs, from logged ``runs`` of one ``regime``.

    Accuracies are those after the last epoch. ``headers`` are the plans of sweeps of orders (``sweep.json``): orders
    that happen to be complete among other runs are no random sample. ``steps`` has the variant of each change's step
    and of the step before it; ``control_variate`` is that of ``shapley.from_orders``. Raises RequestError if no
    finished run is of a set, and for runs of a set that differ in more than design, recipe and seed.
    """
    known = runs[[mask is not None for mask in sets.of_runs(runs)]]
    done = (known["status"] == "finished") & known["top1"].notna() & known["seed"].notna()
    finished = known[done].reset_index(drop=True)
    if not len(finished):
        raise RequestError(
            f"none of these {len(runs)} runs has finished and is of these changes with this recipe; "
            "`roadmap sweep study=orders` trains such runs"
        )
    check_comparable(finished)
    check_equally_long(finished)
    samples = sets.samples(finished)
    planned, drawn = _planned_orders(sets, headers)
    needed = set(sets.same[(shapley.weights(sets.feasible) != 0).any(axis=0)].tolist())
    whole, used, estimate = needed <= samples.keys(), [], None
    if whole:
        estimate = shapley.from_all_sets(sets.feasible, samples, sets.same)
    elif used := [order for order, masks in planned.items() if masks <= samples.keys()]:
        estimate = shapley.from_orders(used, sets.feasible, samples, sets.same, control_variate)
        needed = set().union(*(planned[order] for order in used))
    counted = count(sets)
    names = {name: f"shapley_{name}" for name in shapley.Estimate.__annotations__} | {"values": "shapley"}
    values = pd.DataFrame(vars(estimate) if estimate else dict.fromkeys(names, np.nan), counted.table.index)
    values = values.rename(columns=names)
    paper = pd.Series(paper_deltas(steps, regime), name="paper", dtype=float)
    return Attribution(
        sets,
        pd.concat([counted.table, paper, _deltas(sets, samples), values], axis=1),
        counted.feasible_orders,
        finished,
        samples,
        interactions_of(sets.names, samples),
        len(known) - len(finished),
        len(planned),
        len(used),
        drawn,
        sum(len(samples[mask]) for mask in needed) if estimate else 0,
        whole,
        control_variate and bool(used),
    )


def _planned_orders(
    sets: SubsetTable, headers: Sequence[Mapping[str, Any]]
) -> tuple[dict[tuple[int, ...], set[int]], bool]:
    """Return the orders that sweeps drew at random, each with its sets; if there are none, those that were given."""
    found: dict[tuple[int, ...], set[int]] = {}
    for drawn in (True, False):
        for header in headers:
            if (header["study"].get("orders") == "random") == drawn:
                for names in header["orders"] or ():
                    order = tuple(sets.subsets.places(names))
                    found[order] = set(sets.same[beginnings(order)].tolist())
        if found:
            return found, drawn
    return found, True


def paper_deltas(steps: Sequence[tuple[str, str]], regime: str) -> list[float]:
    """Return the paper's gap of each step to the one before; NaN for other steps than the paper's."""
    published = published_steps(SCALED_FROM.get(regime, regime))
    return [
        published[name].top1 - published[parent].top1
        if {name, parent} <= published.keys() and paper_parents().get(name) == parent
        else np.nan
        for name, parent in steps
    ]


def _deltas(sets: SubsetTable, samples: Mapping[int, Sample]) -> pd.DataFrame:
    """Return the columns of leave-one-out and add-one-in, tested as one family."""
    masks = sets.same[[pair for pairs in sets.pairs.values() for pair in pairs]].tolist()
    found = gaps([(samples.get(one, {}), samples.get(other, {})) for one, other in masks])
    halves = np.split(found[[f"delta{end}" for end in ENDINGS]].to_numpy(), len(SIDES))
    return pd.DataFrame(np.hstack(halves), columns=[f"{side}{end}" for side in SIDES for end in ENDINGS])
