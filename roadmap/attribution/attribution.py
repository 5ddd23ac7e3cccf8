"""What each change of a path is worth, given the others: leave-one-out, add-one-in and Shapley values side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

SIDES = ("loo", "aoi")  # leave-one-out and add-one-in
COSTS = ("gmacs", "params_m")
Planned = Mapping[int, frozenset[int]]  # set -> seeds

# Of a Shapley value.
ESTIMATED = ("se", "low", "high", "df", "se_orders", "se_seeds", "seed_ratio", "seed_ratio_p")


@dataclass(frozen=True)
class Order:
    """An order of changes that a sweep planned, with its seeds; ``drawn`` if at random."""

    places: tuple[int, ...]
    seeds: tuple[int, ...]
    drawn: bool


@dataclass(frozen=True)
class Attribution:
    """``table`` has a row a change.

    ``change``, ``label``, ``section``; ``gmacs_path``, ``gmacs_loo``, ``gmacs_aoi`` and ``gmacs_shapley``, ×10⁹, and
    the same of ``params_m``, ×10⁶: what it adds on the path, to all others, to none, and as its Shapley value;
    ``loo_with`` and ``aoi_with``: the changes that went or came with it. With runs, in percentage points of top-1:
    ``loo`` and ``aoi`` with their ``_low``, ``_high``, ``_n``, ``_p_holm`` as in ``statistics.gaps``, ``shapley`` with
    ``_se``, ``_low``, ``_high``, ``_df``, ``_se_orders``, ``_se_seeds``, ``_seed_ratio`` and, by Holm's
    method, ``_seed_ratio_p`` as in ``shapley_estimate``, and ``paper`` with ``paper_low`` and ``paper_high``.

    ``runs`` is the finished runs that are of a set, ``unfinished`` how many others are, ``planned`` the seeds that
    each of ``loo``, ``aoi`` and ``shapley`` wants of each set, ``orders`` those that sweeps planned. The Shapley values
    are from ``used``, the complete ones of them, or, where every set has been run, from all orders (``whole``), and
    from ``used_runs`` of the runs.
    """

    sets: SubsetTable
    table: pd.DataFrame
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: Mapping[int, Sample] = field(default_factory=dict)
    unfinished: int = 0
    planned: Mapping[str, Planned] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    used: tuple[Order, ...] = ()
    used_runs: int = 0
    feasible_orders: float = 0
    whole: bool = False

    def missing(self, *columns: str) -> int:
        """How many runs that any of ``loo``, ``aoi`` and ``shapley`` wants are not finished."""
        return _missing(_joined(self.planned.get(column, {}) for column in columns), self.samples)


def count(sets: SubsetTable) -> Attribution:
    """The attribution of GMACs and parameters, exactly, with no run at all."""
    rows = [
        {"change": change.name, "label": change.label, "section": change.section}
        | {"loo_with": _others(sets, sets.full & ~sets.without[place], place)}
        | {"aoi_with": _others(sets, sets.alone[place], place)}
        for place, change in enumerate(sets.changes)
    ]
    table = pd.DataFrame(rows)
    for name in COSTS:
        values = getattr(sets, name)
        table[f"{name}_shapley"] = shapley.exact(values)
        table[f"{name}_path"] = np.diff(values[sets.path()]) if sets.feasible[sets.path()].all() else np.nan
        table[f"{name}_loo"] = [values[sets.full] - values[sets.without[i]] for i in range(len(table))]
        table[f"{name}_aoi"] = [values[sets.alone[i]] - values[0] for i in range(len(table))]
    return Attribution(sets, table, feasible_orders=shapley.orders(sets.feasible))


def attribute(
    runs: pd.DataFrame,
    sets: SubsetTable,
    headers: Sequence[Mapping[str, Any]],
    regime: str,
    steps: Sequence[tuple[str, str]],
) -> Attribution:
    """The attribution of accuracy beside that of costs, from logged ``runs`` of one ``regime``.

    Accuracies are those after the last epoch. ``headers`` are what sweeps planned (``sweep.json``); orders are taken
    from there alone, since orders that happen to be complete among other runs are no random draw. ``steps`` has the
    variant of each change's step and of the step before it. Raises RequestError where no finished run is of a set, and
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
    counted = count(sets)
    pairs = {
        "loo": [(sets.full, mask) for mask in sets.without],
        "aoi": [(mask, 0) for mask in sets.alone],
    }
    planned = _planned(sets, pairs, headers, orders, frozenset(finished["seed"].astype(int)))
    whole = _reached(sets) <= samples.keys()
    used = () if whole else _complete(sets, samples, orders)
    masks = _reached(sets) if whole else {mask for order in used for mask in _led_through(sets, order.places)}
    estimate = None
    if whole:
        estimate = from_all_sets(sets.feasible, samples, sets.same)
    elif used:
        estimate = from_orders([order.places for order in used], sets.feasible, samples, sets.same)
    parts = [counted.table, paper_deltas(steps, regime), _deltas(sets, samples, pairs)]
    parts.append(_shapley_columns(estimate, len(sets.changes)))
    return Attribution(
        sets,
        pd.concat(parts, axis=1),
        finished,
        samples,
        len(known) - len(finished),
        planned,
        orders,
        used,
        sum(len(samples[mask]) for mask in masks),
        counted.feasible_orders,
        whole,
    )


def planned_orders(sets: SubsetTable, headers: Sequence[Mapping[str, Any]]) -> tuple[Order, ...]:
    """The orders of these changes that sweeps planned; one that two of them have with the seeds of both."""
    found: dict[tuple[int, ...], Order] = {}
    for header in headers:
        drawn = header["study"].get("orders") in ("random", "all")
        for names in header["orders"] or ():
            places = sets.order(names)
            if places is not None:
                key, seeds = tuple(places), tuple(header["seeds"])
                before = found.get(key)
                seeds = tuple(sorted({*seeds, *(before.seeds if before else ())}))
                found[key] = Order(key, seeds, drawn or (before is not None and before.drawn))
    return tuple(found.values())


def paper_deltas(steps: Sequence[tuple[str, str]], regime: str) -> pd.DataFrame:
    """The paper's gap of each step to the one before, ``paper``, in percentage points of top-1 on ImageNet.

    ``steps`` are variants, each with the one before. ``paper_low`` to ``paper_high`` is the 95 % interval by Welch's
    method where the paper has the standard deviation of both over three seeds. NaN for what is no step of the paper's.
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


def _others(sets: SubsetTable, mask: int, place: int) -> str:
    return " ".join(sets.named(mask & ~(1 << place)))


def _deltas(
    sets: SubsetTable, samples: Mapping[int, Sample], pairs: Mapping[str, Sequence[tuple[int, int]]]
) -> pd.DataFrame:
    """The columns of leave-one-out and add-one-in, tested as one family."""
    chosen = [(int(sets.same[one]), int(sets.same[other])) for side in SIDES for one, other in pairs[side]]
    measured = gaps([(samples.get(one, {}), samples.get(other, {})) for one, other in chosen])
    changes = len(sets.changes)
    return pd.DataFrame(
        {
            side + name: measured[f"delta{name}"].to_numpy()[number * changes : (number + 1) * changes]
            for number, side in enumerate(SIDES)
            for name in ("", "_low", "_high", "_n", "_p_holm")
        }
    )


def _planned(
    sets: SubsetTable,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    headers: Sequence[Mapping[str, Any]],
    orders: Sequence[Order],
    seeds: frozenset[int],
) -> dict[str, Planned]:
    """The seeds that each column wants of each set: those of the sweeps for it, or of the runs where there is none."""
    planned: dict[str, Planned] = {}
    for side, study in zip(SIDES, ("leave_one_out", "add_one_in"), strict=True):
        ours = frozenset(seed for header in headers if header["study"]["name"] == study for seed in header["seeds"])
        masks = sets.same[np.ravel(pairs[side])].tolist()
        planned[side] = dict.fromkeys(masks, ours or seeds)
    wanted = [dict.fromkeys(_led_through(sets, order.places), frozenset(order.seeds)) for order in orders]
    wanted += [
        dict.fromkeys(_reached(sets), frozenset(header["seeds"]))
        for header in headers
        if header["study"].get("orders") == "all" and sorted(header["changes"] or ()) == sorted(sets.names)
    ]
    return planned | {"shapley": _joined(wanted)}


def _joined(parts: Iterable[Planned]) -> Planned:
    joined: dict[int, frozenset[int]] = {}
    for part in parts:
        for mask, seeds in part.items():
            joined[mask] = joined.get(mask, frozenset()) | seeds
    return joined


def _missing(planned: Planned, samples: Mapping[int, Sample]) -> int:
    return sum(len(seeds - samples.get(mask, {}).keys()) for mask, seeds in planned.items())


def _led_through(sets: SubsetTable, order: Sequence[int]) -> list[int]:
    """The first equal one of each set that an order leads through, from none to all."""
    return list(sets.same[beginnings(order)].tolist())


def _reached(sets: SubsetTable) -> set[int]:
    """The sets that any order leads through."""
    return set(sets.same[(shapley.weights(sets.feasible) != 0).any(axis=0)].tolist())


def _complete(sets: SubsetTable, samples: Mapping[int, Sample], orders: Sequence[Order]) -> tuple[Order, ...]:
    """The orders of which every set has been run; those drawn at random alone, if there are any."""
    complete = tuple(order for order in orders if set(_led_through(sets, order.places)) <= samples.keys())
    return tuple(order for order in complete if order.drawn) or complete


def _shapley_columns(estimate: Estimate | None, changes: int) -> pd.DataFrame:
    names = {"values": "shapley"} | {name: f"shapley_{name}" for name in ESTIMATED}
    if estimate is None:
        return pd.DataFrame(np.nan, range(changes), list(names.values()))
    table = pd.DataFrame({column: getattr(estimate, name) for name, column in names.items()})
    known = table["shapley_seed_ratio_p"].notna()
    if known.any():
        from statsmodels.stats.multitest import multipletests

        table.loc[known, "shapley_seed_ratio_p"] = multipletests(table["shapley_seed_ratio_p"][known], method="holm")[1]
    return table
