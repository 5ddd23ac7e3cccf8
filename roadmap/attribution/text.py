"""An attribution as text: tables of accuracies, costs and interactions, and notes on how to read them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadmap.attribution.attribution import SIDES, Attribution
from roadmap.attribution.interactions import Interactions, explained, format_p, measured
from roadmap.comparison.statistics import ALPHA
from roadmap.formatting import aligned

SHOWN = 10  # pairs
SIDE_NAMES = {"loo": "leave-one-out", "aoi": "add-one-in"}
COLUMN_NAMES = SIDE_NAMES | {"shapley": "the orders"}
ESTIMATES = {"path": "on the path", "loo": "leave-one-out", "aoi": "add-one-in", "shapley": "Shapley"}
NEEDS = {"loo": "leaves with", "aoi": "comes with"}

Cells = tuple[list[str], list[list[str]]]


def text(found: Attribution) -> str:
    """Return everything for a terminal."""
    lines = []
    if len(found.runs):
        pairs = interactions_of(found)
        lines = [aligned(*accuracy_cells(found)), *_notes(found, pairs), ""]
        if pairs is not None and len(pairs.pairs):
            lines += [aligned(*pair_cells(pairs)), *_pair_notes(pairs), ""]
    return "\n".join([*lines, aligned(*cost_cells(found)), *cost_notes(found)])


def record(found: Attribution) -> dict[str, Any]:
    """Return everything as plain values for JSON: ``changes``, ``interactions``, ``notes``; missing values None."""
    pairs = interactions_of(found)
    notes = [*cost_notes(found), *(_notes(found, pairs) if len(found.runs) else [])]
    return {
        "changes": _records(found.table),
        "interactions": _records(pairs.pairs) if pairs else [],
        "runs_missing": found.missing(*COLUMN_NAMES),
        "notes": notes,
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[return-value]


def interactions_of(found: Attribution) -> Interactions | None:
    """Return the interactions of the measured sets; None without runs, or with too few sets for the main effects."""
    return measured(found.sets.names, found.samples) if found.samples else None


def mac_unit(found: Attribution) -> tuple[float, str]:
    """Return the factor from GMACs to a readable unit, and the name of that unit."""
    ends = found.sets.gmacs[[0, found.sets.full]]
    return (1.0, "GFLOPs (MACs)") if ends.max() >= 0.1 else (1000.0, "MFLOPs (MACs)")


def _costs(found: Attribution) -> list[tuple[str, float, str]]:
    """The column of each cost, its factor and its unit."""
    return [("gmacs", *mac_unit(found)), ("params_m", 1.0, "params (M)")]


def cost_cells(found: Attribution) -> Cells:
    """Return what each change adds to MACs and parameters, four ways, and the sums."""
    columns = []
    for name, scale, unit in _costs(found):
        for estimate, words in ESTIMATES.items():
            values = found.table[f"{name}_{estimate}"] * scale
            header = f"{unit} {words}" if estimate == "path" else words
            columns.append([header, *map(_cost, [*values, values.sum(skipna=False)])])
    return _cells(found, columns)


def accuracy_cells(found: Attribution) -> Cells:
    """Return the paper's gap, leave-one-out, add-one-in and Shapley value of each change, with intervals."""
    table = found.table
    columns = [["paper Δ", *_summed(table["paper"])]]
    for side, name in SIDE_NAMES.items():
        columns.append([name, *_summed(table[side])])
        columns.append(["95 %", *_intervals(table, side), ""])
        columns.append(["n", *(_number(value, ".0f") for value in table[f"{side}_n"]), ""])
        columns.append(["p (Holm)", *("" if pd.isna(p) else format_p(p) for p in table[f"{side}_p_holm"].tolist()), ""])
    errors = table["shapley_se"].where(table["shapley_low"].notna())
    spread = [*("" if pd.isna(se) else f" ± {se:.2f}" for se in errors), ""]
    columns.append(["Shapley ± SE", *map("".join, zip(_summed(table["shapley"]), spread, strict=True))])
    columns.append(["95 %", *_intervals(table, "shapley"), ""])
    return _cells(found, [column for column in columns if any(cell not in ("", "-") for cell in column[1:-1])])


def pair_cells(pairs: Interactions) -> Cells:
    """Return the strongest pairs."""
    table = pairs.pairs.iloc[pairs.pairs["estimate"].abs().argsort()[::-1][:SHOWN]]
    rows = [
        [
            pair["first"],
            pair["second"],
            f"{pair['estimate']:+.2f} ± {pair['se']:.2f}",
            *map(format_p, (pair["p"], pair["p_holm"])),
        ]
        for pair in table.to_dict("records")
    ]
    return ["change", "and", "both together ± SE", "p", "p (Holm)"], rows


def _cells(found: Attribution, columns: Sequence[Sequence[str]]) -> Cells:
    """The table of columns, each its header, a cell per change and the sum."""
    others = (found.table["loo_with"] != "") | (found.table["aoi_with"] != "")
    names = [name + " *" * marked for name, marked in zip(found.table["change"], others, strict=True)]
    header, *rows = map(list, zip(["change", *names, "sum"], *columns, strict=True))
    return header, rows


def cost_notes(found: Attribution) -> list[str]:
    """Return what the table of costs says, and which changes need others."""
    sets, lines = found.sets, []
    for name, scale, unit in _costs(found):
        values = getattr(sets, name) * scale
        lines.append(
            f"{unit}: {values[0]:.3f} without these changes, {values[-1]:.3f} with all of them: "
            f"{values[-1] - values[0]:+.3f}, to which Shapley values sum; {_explained(values)}"
        )
    lines.append(
        f"Shapley: the mean of what a change adds over all {found.feasible_orders:,.0f} orders in which each change "
        f"has what it needs, exact over {int(sets.feasible.sum()):,} sets"
    )
    needs = [
        f"{change} {verb} {others.replace(' ', ' and ')} ({SIDE_NAMES[side]})"
        for side, verb in NEEDS.items()
        for change, others in zip(found.table["change"], found.table[f"{side}_with"], strict=True)
        if others
    ]
    return lines + [f"* {'; '.join(needs)}"] * bool(needs)


def _explained(values: np.ndarray) -> str:
    by_themselves, with_pairs = explained(values)
    if pd.isna(by_themselves):
        return "all sets cost the same"
    return (
        f"over all sets the changes by themselves explain {100 * by_themselves:.1f} % of the variance, with pairs "
        f"{100 * with_pairs:.1f} %"
    )


def _pair_notes(pairs: Interactions) -> list[str]:
    rest = len(pairs.pairs) - SHOWN
    more = f"; the {rest} weaker pairs are in --json" if rest > 0 else ""
    lines = [f"both together: top-1 that two changes add beyond each alone, by least squares over the designs{more}"]
    left_out = f"left out: pairs of which one needs the other or not all four combinations ran ({pairs.left_out})"
    return lines + [left_out] * bool(pairs.left_out)


def _notes(found: Attribution, pairs: Interactions | None) -> list[str]:
    """What the table of accuracies says, how far to trust it, and which runs are missing."""
    table = found.table
    intervals = sum(int(table[f"{name}_low"].notna().sum()) for name in (*SIDES, "shapley"))
    tested = int(table[[f"{side}_p_holm" for side in SIDES]].notna().to_numpy().sum())
    missing = {name: found.missing(column) for column, name in COLUMN_NAMES.items() if found.missing(column)}
    parts = ", ".join(f"{count} of {name}" for name, count in missing.items())
    lines = {
        "top-1 after the last epoch, percentage points; leave-one-out: all changes less all but this one; add-one-in: "
        "this one less none, both paired by seed where seeds are shared": True,
        **dict.fromkeys(_about_shapley(found), True),
        "caution: a gap of one seed (n 1) has no interval and no test: it may be noise": (
            (table[[f"{side}_n" for side in SIDES]] == 1).to_numpy().any()
        ),
        f"95 %: each of the {intervals} intervals by itself; of such intervals one in twenty misses by chance": (
            intervals
        ),
        f"p: of {tested} t-tests, corrected by Holm's method": tested,
        pairs.sentence() if pairs else "interactions: too few designs for the changes' main effects": True,
        f"missing: {found.missing(*COLUMN_NAMES)} runs ({parts})": parts,
        f"caution: {found.unfinished} failed or unfinished runs of these sets are left out": found.unfinished,
    }
    return [line for line, holds in lines.items() if holds]


def _about_shapley(found: Attribution) -> list[str]:
    table, count = found.table, len(found.used)
    if not found.whole and not count:
        if not found.planned["shapley"]:
            return ["Shapley: no sweep planned orders; `roadmap sweep study=orders` draws some and trains their sets"]
        what = f"none of {len(found.orders)} planned orders" if found.orders else "not every set of all orders"
        return [f"Shapley: {what} has been run whole; rerun the same `roadmap sweep` to continue"]
    first, last = (_mean(found, mask) for mask in (0, found.sets.full))
    of = f"over all orders, from all {len(found.samples)} sets and {found.used_runs} runs"
    if not found.whole:
        of = f"mean over {count} of {found.feasible_orders:,.0f} orders, from {found.used_runs} runs"
    noise = table["shapley_se_seeds"].notna().any()
    by_orders, by_seeds = (table[f"shapley_se_{name}"].pow(2).mean() ** 0.5 for name in ("orders", "seeds"))
    unknown = "caution: no set has two seeds, so seed noise is unknown"
    suspect = table[table["shapley_seed_ratio_p"] < ALPHA]
    lines = {
        f"Shapley: {of}; they sum to {last - first:+.2f}, top-1 with all changes less that with none "
        f"({last:.2f} - {first:.2f})": True,
        "caution: these orders were given, not drawn, so their error as a sample of all is unknown": (
            not all(order.drawn for order in found.used)
        ),
        "caution: one order says nothing of how orders differ: there is no interval": count == 1,
        f"SE: {by_orders:.2f} from which orders were drawn and {by_seeds:.2f} from seed noise, on average": noise,
        f"{unknown}; SE is a cautious guess by the spread of orders": not noise and count > 1,
        f"{unknown} and there is no interval": not noise and found.whole,
    }
    return [line for line, holds in lines.items() if holds] + [
        f"caution: between seeds the Shapley value of {change} varies {ratio:.1f} times as much as it would if a seed "
        "did something else to each set; its SE is too small"
        for change, ratio in zip(suspect["change"], suspect["shapley_seed_ratio"], strict=True)
    ]


def _mean(found: Attribution, mask: int) -> float:
    return float(np.mean([*found.samples[int(found.sets.same[mask])].values()]))


def _summed(values: pd.Series) -> list[str]:
    return [_number(value, "+.2f") for value in [*values, values.sum(skipna=False)]]


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends]


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def _cost(value: float) -> str:
    """Three digits; what rounds to nothing has no sign."""
    return "-" if pd.isna(value) else f"{round(value, 3):+.3f}" if round(value, 3) else "0.000"
