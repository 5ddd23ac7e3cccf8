"""What each change of a path is worth, given the others: leave-one-out, add-one-in and Shapley values side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from roadmap.attribution import shapley
from roadmap.attribution.change_subsets import SubsetTable, beginnings
from roadmap.attribution.shapley_estimate import Estimate, from_all_sets, from_orders
from roadmap.comparison.statistics import CONFIDENCE, Sample, gaps
from roadmap.errors import RequestError
from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.runs.identity import check_comparable, check_equally_long
from roadmap.steps.path_file import paper_parents

SIDES = {"loo": "leave_one_out", "aoi": "add_one_in"}  # column -> study
COSTS = ("gmacs", "params_m")
ENDINGS = ("", "_low", "_high", "_n", "_p_holm")  # of the columns of a gap
SeedRuns = frozenset[tuple[int, int]]  # a set and a seed each


@dataclass(frozen=True)
class Order:
    """An order of changes that a sweep planned, with its seeds; ``drawn`` if at random."""

    places: tuple[int, ...]
    seeds: tuple[int, ...]
    drawn: bool


@dataclass(frozen=True)
class Attribution:
    """``table`` has one row per change.

    ``change``, ``label``, ``section``; ``gmacs_path``, ``gmacs_loo``, ``gmacs_aoi`` and ``gmacs_shapley``, ×10⁹, and
    the same of ``params_m``, ×10⁶: what it adds on the path, to all others, to none, and as its Shapley value;
    ``loo_with`` and ``aoi_with``: the changes that are removed or added with it. With runs, in percentage points of
    top-1: ``loo`` and ``aoi`` with their ``_low``, ``_high``, ``_n``, ``_p_holm`` as in ``statistics.gaps``;
    ``shapley`` with the fields of ``Estimate``, ``shapley_seed_ratio_p`` corrected by Holm's method; and ``paper`` with
    ``paper_low`` and ``paper_high``.

    ``runs`` are the finished runs of these sets, ``unfinished`` the number of others, ``planned`` the runs that each of
    ``loo``, ``aoi`` and ``shapley`` needs, ``orders`` those that sweeps planned. The Shapley values are from ``used``,
    the complete ones of them, or, if every set has been run, from all orders (``whole``), and from ``used_runs`` runs.
    """

    sets: SubsetTable
    table: pd.DataFrame
    feasible_orders: float
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: Mapping[int, Sample] = field(default_factory=dict)
    unfinished: int = 0
    planned: Mapping[str, SeedRuns] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    used: tuple[Order, ...] = ()
    used_runs: int = 0
    whole: bool = False

    def missing(self, *columns: str) -> int:
        """Return how many runs that any of ``loo``, ``aoi`` and ``shapley`` needs are not finished."""
        planned = SeedRuns().union(*(self.planned.get(column, ()) for column in columns))
        return sum(seed not in self.samples.get(mask, {}) for mask, seed in planned)


def count(sets: SubsetTable) -> Attribution:
    """Return the exact attribution of GMACs and parameters, without runs."""
    table = pd.DataFrame(
        {"change": change.name, "label": change.label, "section": change.section}
        | {"loo_with": " ".join(sets.named(sets.full & ~sets.without[place] & ~(1 << place)))}
        | {"aoi_with": " ".join(sets.named(sets.alone[place] & ~(1 << place)))}
        for place, change in enumerate(sets.changes)
    )
    for name in COSTS:
        values = getattr(sets, name)
        table[f"{name}_shapley"] = shapley.exact(values)
        table[f"{name}_path"] = np.diff(values[sets.path()]) if sets.feasible[sets.path()].all() else np.nan
        table[f"{name}_loo"] = values[sets.full] - values[list(sets.without)]
        table[f"{name}_aoi"] = values[list(sets.alone)] - values[0]
    return Attribution(sets, table, shapley.orders(sets.feasible))


def attribute(
    runs: pd.DataFrame,
    sets: SubsetTable,
    headers: Sequence[Mapping[str, Any]],
    regime: str,
    steps: Sequence[tuple[str, str]],
) -> Attribution:
    """Return the attribution of accuracy and of costs, from logged ``runs`` of one ``regime``.

    Accuracies are those after the last epoch. ``headers`` are the plans of sweeps (``sweep.json``); orders are taken
    from there alone, since orders that happen to be complete among other runs are no random draw. ``steps`` has the
    variant of each change's step and of the step before it. Raises RequestError if no finished run is of a set, and
    for runs of a set that differ in more than design, recipe and seed.
    """
    known = runs[[mask is not None for mask in sets.of_runs(runs)]]
    done = (known["status"] == "finished") & known["top1"].notna() & known["seed"].notna()
    finished = known[done].reset_index(drop=True)
    if not len(finished):
        raise RequestError(
            f"none of these {len(runs)} runs is a finished one of a set of these changes, by design and recipe"
        )
    check_comparable(finished)
    check_equally_long(finished)
    samples = sets.samples(finished)
    orders = planned_orders(sets, headers)
    reached = _reached(sets)
    whole = reached <= samples.keys()
    used = () if whole else _complete(sets, samples, orders)
    masks = reached if whole else {mask for order in used for mask in _sets_of(sets, order.places)}
    estimate = None
    if whole:
        estimate = from_all_sets(sets.feasible, samples, sets.same)
    elif used:
        estimate = from_orders([order.places for order in used], sets.feasible, samples, sets.same)
    pairs = {"loo": [(sets.full, mask) for mask in sets.without], "aoi": [(mask, 0) for mask in sets.alone]}
    counted = count(sets)
    parts = [counted.table, paper_deltas(steps, regime), _deltas(sets, samples, pairs)]
    return Attribution(
        sets,
        pd.concat([*parts, _shapley_columns(estimate, len(sets.changes))], axis=1),
        counted.feasible_orders,
        finished,
        samples,
        len(known) - len(finished),
        _planned(sets, pairs, headers, orders, finished["seed"].astype(int)),
        orders,
        used,
        sum(len(samples[mask]) for mask in masks),
        whole,
    )


def planned_orders(sets: SubsetTable, headers: Sequence[Mapping[str, Any]]) -> tuple[Order, ...]:
    """Return the orders of these changes that sweeps planned; one that two of them share has the seeds of both."""
    found: dict[tuple[int, ...], Order] = {}
    for header in headers:
        drawn = header["study"].get("orders") in ("random", "all")
        for names in header["orders"] or ():
            if (places := sets.order(names)) is not None:
                key = tuple(places)
                before = found.get(key, Order(key, (), False))
                seeds = tuple(sorted({*before.seeds, *header["seeds"]}))
                found[key] = Order(key, seeds, drawn or before.drawn)
    return tuple(found.values())


def paper_deltas(steps: Sequence[tuple[str, str]], regime: str) -> pd.DataFrame:
    """Return the paper's gap of each step to the one before, ``paper``, in percentage points of top-1 on ImageNet.

    ``steps`` are variants, each with the one before. ``paper_low`` to ``paper_high`` is the 95 % interval by Welch's
    method if the paper has the standard deviation of both over three seeds. NaN for other steps than the paper's.
    """
    published = published_steps(SCALED_FROM.get(regime, regime))
    rows = []
    for name, parent in steps:
        step, before = published.get(name), published.get(parent)
        delta = half = np.nan
        if step and before and paper_parents().get(name) == parent:
            delta = step.top1 - before.top1
            if step.top1_std is not None and before.top1_std is not None:
                half = _welch_half(step.top1_std, before.top1_std, 3)
        rows.append({"paper": delta, "paper_low": delta - half, "paper_high": delta + half})
    return pd.DataFrame(rows)


def _welch_half(one: float, other: float, n: int) -> float:
    """Half the 95 % interval of a difference of two means of ``n`` values with these standard deviations."""
    from scipy.special import stdtrit

    first, second = one**2 / n, other**2 / n
    df = (first + second) ** 2 * (n - 1) / (first**2 + second**2)
    return float(stdtrit(df, (1 + CONFIDENCE) / 2) * np.sqrt(first + second))


def _deltas(
    sets: SubsetTable, samples: Mapping[int, Sample], pairs: Mapping[str, Sequence[tuple[int, int]]]
) -> pd.DataFrame:
    """The columns of leave-one-out and add-one-in, tested as one family."""
    firsts = sets.same[[pair for side in SIDES for pair in pairs[side]]].tolist()
    measured = gaps([(samples.get(one, {}), samples.get(other, {})) for one, other in firsts])
    measured = measured[[f"delta{end}" for end in ENDINGS]]
    sides = [
        measured[start : start + len(sets.changes)].set_axis([f"{side}{end}" for end in ENDINGS], axis=1)
        for side, start in zip(SIDES, (0, len(sets.changes)), strict=True)
    ]
    return pd.concat([side.reset_index(drop=True) for side in sides], axis=1)


def _planned(
    sets: SubsetTable,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    headers: Sequence[Mapping[str, Any]],
    orders: Sequence[Order],
    seeds: Iterable[int],
) -> dict[str, SeedRuns]:
    """Return the runs that each column needs: with the seeds of its sweeps, or of the runs if there is none."""
    planned: dict[str, SeedRuns] = {}
    for side, study in SIDES.items():
        ours = {seed for header in headers if header["study"]["name"] == study for seed in header["seeds"]}
        planned[side] = _runs_of(sets.same[np.ravel(pairs[side])].tolist(), ours or seeds)
    wanted = [_runs_of(_sets_of(sets, order.places), order.seeds) for order in orders]
    wanted += [
        _runs_of(_reached(sets), header["seeds"])
        for header in headers
        if header["study"].get("orders") == "all" and sorted(header["changes"] or ()) == sorted(sets.names)
    ]
    return planned | {"shapley": SeedRuns().union(*wanted)}


def _runs_of(masks: Iterable[int], seeds: Iterable[int]) -> SeedRuns:
    return frozenset(product(masks, seeds))


def _sets_of(sets: SubsetTable, order: Sequence[int]) -> list[int]:
    """The sets of an order's beginnings, from none to all; of equal sets the first."""
    return list(sets.same[beginnings(order)].tolist())


def _reached(sets: SubsetTable) -> set[int]:
    """The sets of all orders."""
    return set(sets.same[(shapley.weights(sets.feasible) != 0).any(axis=0)].tolist())


def _complete(sets: SubsetTable, samples: Mapping[int, Sample], orders: Sequence[Order]) -> tuple[Order, ...]:
    """The orders of which every set has been run; only those drawn at random, if there are any."""
    complete = tuple(order for order in orders if set(_sets_of(sets, order.places)) <= samples.keys())
    return tuple(order for order in complete if order.drawn) or complete


def _shapley_columns(estimate: Estimate | None, changes: int) -> pd.DataFrame:
    names = [field.name for field in fields(Estimate)]
    table = pd.DataFrame(np.nan, range(changes), names) if estimate is None else pd.DataFrame(vars(estimate))
    known = table["seed_ratio_p"].notna()
    if known.any():
        from statsmodels.stats.multitest import multipletests

        table.loc[known, "seed_ratio_p"] = multipletests(table["seed_ratio_p"][known], method="holm")[1]
    return table.add_prefix("shapley_").rename(columns={"shapley_values": "shapley"})
