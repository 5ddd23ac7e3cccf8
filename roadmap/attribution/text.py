"""An attribution as text: the table of accuracies, that of costs, interactions, and how far to trust them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from roadmap.attribution.attribution import SIDES, Attribution
from roadmap.attribution.interactions import Interactions, explained, measured
from roadmap.comparison.statistics import ALPHA
from roadmap.formatting import aligned

SHOWN = 10  # pairs
SIDE_NAMES = {"loo": "leave-one-out", "aoi": "add-one-in"}
COLUMN_NAMES = SIDE_NAMES | {"shapley": "the orders"}
WAYS = {"path": "on the path", "loo": "leave-one-out", "aoi": "add-one-in", "shapley": "Shapley"}


def text(found: Attribution) -> str:
    """Everything, for a terminal."""
    accuracies = [*_accuracies(found), ""] if len(found.runs) else []
    return "\n".join([*accuracies, aligned(*cost_cells(found)), *cost_notes(found)])


def record(found: Attribution) -> dict[str, Any]:
    """Everything as plain values for JSON: ``changes``, ``interactions``, ``notes``; missing values None."""
    pairs = interactions_of(found)
    notes = [*cost_notes(found), *(_notes(found, pairs) if len(found.runs) else [])]
    return {
        "changes": _records(found.table),
        "interactions": _records(pairs.pairs) if pairs else [],
        "runs_missing": found.missing(*COLUMN_NAMES),
        "notes": notes,
    }


def interactions_of(found: Attribution) -> Interactions | None:
    """The interactions of the measured sets; None without runs, and for fewer sets than main effects take."""
    return measured(found.sets.names, found.samples) if found.samples else None


def mac_unit(found: Attribution) -> tuple[float, str]:
    """From GMACs to the unit that these networks are readable in, and its name."""
    ends = found.sets.gmacs[[0, found.sets.full]]
    return (1.0, "GFLOPs (MACs)") if ends.max() >= 0.1 else (1000.0, "MFLOPs (MACs)")


def cost_cells(found: Attribution) -> tuple[list[str], list[list[str]]]:
    """What each change adds to MACs and parameters, four ways, and the sums."""
    factor, unit = mac_unit(found)
    header, columns = ["change"], [[*_marked(found), "sum"]]
    for name, scale, head in (("gmacs", factor, unit), ("params_m", 1.0, "params (M)")):
        for way, words in WAYS.items():
            values = found.table[f"{name}_{way}"] * scale
            header.append(f"{head} {words}" if way == "path" else words)
            columns.append([_cost(value) for value in [*values, values.sum(skipna=False)]])
    return header, [list(row) for row in zip(*columns, strict=True)]


def cost_notes(found: Attribution) -> list[str]:
    """What the costs' table says, and where a change does not go alone."""
    sets = found.sets
    factor, unit = mac_unit(found)
    lines = []
    for name, scale, head in (("gmacs", factor, unit), ("params_m", 1.0, "params (M)")):
        values = getattr(sets, name) * scale
        lines.append(
            f"{head}: {values[0]:.3f} without these changes, {values[-1]:.3f} with all of them: "
            f"{values[-1] - values[0]:+.3f}, to which Shapley values sum; {_explained(values)}"
        )
    lines.append(
        f"Shapley: the mean of what a change adds over all {found.feasible_orders:,.0f} orders in which each change "
        f"has what it needs, exact over {int(sets.feasible.sum()):,} sets"
    )
    return lines + _company(found)


def _explained(values: Any) -> str:
    by_themselves, with_pairs = explained(values)
    if pd.isna(by_themselves):
        return "all sets cost the same"
    return (
        f"over all sets the changes by themselves explain {100 * by_themselves:.1f} % of the variance, with pairs "
        f"{100 * with_pairs:.1f} %"
    )


def _company(found: Attribution) -> list[str]:
    """The changes that others have to leave or come with."""
    parts = []
    for side, verb in zip(SIDES, ("leaves with", "comes with"), strict=True):
        for change, others in zip(found.table["change"], found.table[f"{side}_with"], strict=True):
            if others:
                parts.append(f"{change} {verb} {others.replace(' ', ' and ')} ({SIDE_NAMES[side]})")
    return [f"* {'; '.join(parts)}"] if parts else []


def _marked(found: Attribution) -> list[str]:
    company = (found.table["loo_with"] != "") | (found.table["aoi_with"] != "")
    return [name + " *" * more for name, more in zip(found.table["change"], company, strict=True)]


def _accuracies(found: Attribution) -> list[str]:
    pairs = interactions_of(found)
    lines = [aligned(*accuracy_cells(found)), *_notes(found, pairs)]
    if pairs is not None and len(pairs.pairs):
        lines += ["", aligned(*pair_cells(pairs)), *_pair_notes(pairs)]
    return lines


def accuracy_cells(found: Attribution) -> tuple[list[str], list[list[str]]]:
    """The paper's gap, leave-one-out, add-one-in and Shapley value of each change, with intervals."""
    table = found.table
    header, columns = ["change"], [[*_marked(found), "sum"]]

    def add(name: str, cells: Sequence[str], total: str = "") -> None:
        if any(cell not in ("", "-") for cell in cells):
            header.append(name)
            columns.append([*cells, total])

    add("paper Δ", [_number(value, "+.2f") for value in table["paper"]], _sum(table["paper"]))
    for side, name in SIDE_NAMES.items():
        add(name, [_number(value, "+.2f") for value in table[side]], _sum(table[side]))
        add("95 %", _intervals(table, side))
        add("n", [_number(value, ".0f") for value in table[f"{side}_n"]])
        add("p (Holm)", ["" if pd.isna(p) else _p(p) for p in table[f"{side}_p_holm"]])
    spread = [
        "" if pd.isna(low) else f" ± {se:.2f}"
        for se, low in zip(table["shapley_se"], table["shapley_low"], strict=True)
    ]
    values = [_number(value, "+.2f") for value in table["shapley"]]
    add("Shapley ± SE", [a + b for a, b in zip(values, spread, strict=True)], _sum(table["shapley"]))
    add("95 %", _intervals(table, "shapley"))
    return header, [list(row) for row in zip(*columns, strict=True)]


def pair_cells(pairs: Interactions) -> tuple[list[str], list[list[str]]]:
    """The strongest pairs."""
    table = pairs.pairs.iloc[pairs.pairs["estimate"].abs().argsort()[::-1][:SHOWN]]
    rows = [
        [row["first"], row["second"], f"{row['estimate']:+.2f} ± {row['se']:.2f}", _p(row["p"]), _p(row["p_holm"])]
        for row in table.to_dict("records")
    ]
    return ["change", "and", "both together ± SE", "p", "p (Holm)"], rows


def _pair_notes(pairs: Interactions) -> list[str]:
    rest = len(pairs.pairs) - SHOWN
    lines = [
        "both together: top-1 that two changes add beyond each alone, by least squares over the designs"
        + (f"; the {rest} weaker pairs are in --json" if rest > 0 else "")
    ]
    if pairs.left_out:
        lines.append(
            f"left out: pairs of which one needs the other or not all four combinations ran ({pairs.left_out})"
        )
    return lines


def _notes(found: Attribution, pairs: Interactions | None) -> list[str]:
    """What the accuracies' table says, how far it can be trusted, and what is missing."""
    table = found.table
    lines = [
        "top-1 after the last epoch, percentage points; leave-one-out: all changes less all but this one; add-one-in: "
        "this one less none, both paired by seed where seeds are shared"
    ]
    lines += _about_shapley(found)
    counts = table[[f"{side}_n" for side in SIDES]]
    if (counts == 1).to_numpy().any():
        lines.append("caution: a gap of one seed (n 1) has no interval and no test: it may be noise")
    intervals = sum(int(table[f"{name}_low"].notna().sum()) for name in (*SIDES, "shapley"))
    if intervals:
        lines.append(
            f"95 %: each of the {intervals} intervals by itself; of such intervals one in twenty misses by chance"
        )
    if tested := int(table[[f"{side}_p_holm" for side in SIDES]].notna().to_numpy().sum()):
        lines.append(f"p: of {tested} t-tests, corrected by Holm's method")
    lines.append(pairs.sentence() if pairs else "interactions: too few designs for the changes' main effects")
    lines += _about_missing(found)
    if found.unfinished:
        lines.append(f"caution: {found.unfinished} failed or unfinished runs of these sets are left out")
    return lines


def _about_shapley(found: Attribution) -> list[str]:
    table = found.table
    if not found.whole and not found.used:
        if not found.planned["shapley"]:
            return ["Shapley: no sweep planned orders; `roadmap sweep study=orders` draws some and trains their sets"]
        what = f"none of {len(found.orders)} planned orders" if found.orders else "not every set of all orders"
        return [f"Shapley: {what} has been run whole; the same `roadmap sweep` goes on"]
    first, last = (_mean(found, mask) for mask in (0, found.sets.full))
    total = f"they sum to {last - first:+.2f}, top-1 with all changes less that with none ({last:.2f} - {first:.2f})"
    if found.whole:
        lines = [f"Shapley: over all orders, from all {len(found.samples)} sets and {found.used_runs} runs; {total}"]
    else:
        lines = [
            f"Shapley: mean over {len(found.used)} of {found.feasible_orders:,.0f} orders, from {found.used_runs} "
            f"runs; {total}"
        ]
        if not all(order.drawn for order in found.used):
            lines.append("caution: these orders were given, not drawn, so their error as a sample of all is unknown")
        if len(found.used) == 1:
            lines.append("caution: one order says nothing of how orders differ: there is no interval")
    if table["shapley_se_seeds"].notna().any():
        parts = [table[f"shapley_se_{name}"].pow(2).mean() ** 0.5 for name in ("orders", "seeds")]
        lines.append(f"SE: {parts[0]:.2f} from which orders were drawn and {parts[1]:.2f} from seed noise, on average")
        suspect = table[table["shapley_seed_ratio_p"] < ALPHA]
        for change, ratio in zip(suspect["change"], suspect["shapley_seed_ratio"], strict=True):
            lines.append(
                f"caution: between seeds the Shapley value of {change} varies {ratio:.1f} times as much as it would if "
                "a seed did something else to each set; its SE is too small"
            )
    elif len(found.used) > 1:
        lines.append(
            "caution: no set has two seeds, so seed noise is unknown; SE is a cautious guess by the spread of orders"
        )
    elif found.whole:
        lines.append("caution: no set has two seeds, so seed noise is unknown and there is no interval")
    return lines


def _about_missing(found: Attribution) -> list[str]:
    parts = [f"{found.missing(column)} of {name}" for column, name in COLUMN_NAMES.items() if found.missing(column)]
    return [f"missing: {found.missing(*COLUMN_NAMES)} runs ({', '.join(parts)})"] if parts else []


def _mean(found: Attribution, mask: int) -> float:
    sample: Mapping[int, float] = found.samples[int(found.sets.same[mask])]
    return sum(sample.values()) / len(sample)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if isinstance(value, float) and pd.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def _sum(values: pd.Series) -> str:
    return _number(values.sum(skipna=False), "+.2f")


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends]


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def _cost(value: float) -> str:
    """Three digits; what rounds to nothing has no sign."""
    return "-" if pd.isna(value) else f"{round(value, 3):+.3f}" if round(value, 3) else "0.000"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
