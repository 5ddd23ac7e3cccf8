"""An attribution as text: tables of accuracies, costs and interactions, and notes on how to read them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadmap.attribution.attribution import SIDES, Attribution
from roadmap.attribution.interactions import Interactions, explained
from roadmap.formatting import aligned, format_p, number
from roadmap.statistics.correction import ALPHA

SHOWN = 10  # pairs
MEASURES = {"path": "on the path"} | SIDES | {"shapley": "Shapley"}
NEEDS = {"loo": "leaves with", "aoi": "comes with"}

Cells = tuple[list[str], list[list[str]]]


def text(found: Attribution) -> str:
    """Return everything for a terminal."""
    lines = []
    if len(found.runs):
        lines = [aligned(*_accuracy_cells(found)), *_accuracy_notes(found), ""]
        if found.interactions is not None and len(found.interactions.pairs):
            lines += [aligned(*_pair_cells(found.interactions)), *_pair_notes(found.interactions), ""]
    return "\n".join([*lines, aligned(*_cost_cells(found)), *_cost_notes(found)])


def record(found: Attribution) -> dict[str, Any]:
    """Return everything as plain values for JSON: ``changes``, ``interactions``, ``notes``; missing values None."""
    pairs = pd.DataFrame() if found.interactions is None else found.interactions.pairs
    changes, interactions = (
        table.astype(object).where(table.notna(), None).to_dict("records") for table in (found.table, pairs)
    )
    notes = [*_cost_notes(found), *(_accuracy_notes(found) if len(found.runs) else [])]
    return {"changes": changes, "interactions": interactions, "notes": notes}


def _costs(found: Attribution) -> list[tuple[str, float, str]]:
    """The column of each cost, its factor and its unit."""
    return [("gmacs", *found.mac_unit), ("params_m", 1.0, "params (M)")]


def _cost_cells(found: Attribution) -> Cells:
    columns = []
    for name, scale, unit in _costs(found):
        for measure, words in MEASURES.items():
            values = found.table[f"{name}_{measure}"] * scale
            cells = [number(round(v, 3) + 0.0, "+.3f") for v in [*values, values.sum(skipna=False)]]
            columns.append([f"{unit} {words}" if measure == "path" else words, *cells])
    return _cells(found, columns)


def _accuracy_cells(found: Attribution) -> Cells:
    table = found.table
    columns = [["paper Δ", *_summed(table["paper"])]]
    for side, name in SIDES.items():
        columns.append([name, *_summed(table[side])])
        columns.append(["95 %", *_intervals(table, side)])
        columns.append(["n", *(number(value, ".0f") for value in table[f"{side}_n"]), ""])
        columns.append(["p (Holm)", *map(format_p, table[f"{side}_p_holm"].tolist()), ""])
    errors = table["shapley_se"].where(table["shapley_low"].notna())
    spread = [*("" if pd.isna(se) else f" ± {se:.2f}" for se in errors), ""]
    columns.append(["Shapley ± SE", *map("".join, zip(_summed(table["shapley"]), spread, strict=True))])
    columns.append(["95 %", *_intervals(table, "shapley")])
    return _cells(found, [column for column in columns if any(cell not in ("", "-") for cell in column[1:-1])])


def _pair_cells(pairs: Interactions) -> Cells:
    table = pairs.pairs.iloc[pairs.pairs["estimate"].abs().argsort()[::-1][:SHOWN]]
    rows = [
        [one, other, f"{estimate:+.2f} ± {se:.2f}", format_p(p), format_p(corrected)]
        for one, other, estimate, se, p, corrected in table.itertuples(index=False)
    ]
    return ["change", "and", "both together ± SE", "p", "p (all pairs)"], rows


def _cells(found: Attribution, columns: Sequence[Sequence[str]]) -> Cells:
    """Return the table of columns, each its header, a cell per change and the sum."""
    others = (found.table["loo_with"] != "") | (found.table["aoi_with"] != "")
    names = [name + " *" * marked for name, marked in zip(found.table["change"], others, strict=True)]
    header, *rows = map(list, zip(["change", *names, "sum"], *columns, strict=True))
    return header, rows


def _cost_notes(found: Attribution) -> list[str]:
    lines = []
    for name, scale, unit in _costs(found):
        values = getattr(found.sets, name) * scale
        by_mains, with_pairs = explained(values)
        shares = f"{100 * by_mains:.1f} % of the variance, with pairs {100 * with_pairs:.1f} %"
        lines.append(
            f"{unit}: {values[0]:.3f} without these changes, {values[-1]:.3f} with all of them: "
            f"{values[-1] - values[0]:+.3f}, to which Shapley values sum"
            + ("" if np.isnan(by_mains) else f"; over all sets the changes by themselves explain {shares}")
        )
    lines.append(
        f"Shapley: the mean of what a change adds over all {found.feasible_orders:,.0f} orders in which each change "
        f"has what it needs, exact over {int(found.sets.feasible.sum()):,} sets"
    )
    needs = [
        f"{change} {verb} {others.replace(' ', ' and ')} ({SIDES[side]})"
        for side, verb in NEEDS.items()
        for change, others in zip(found.table["change"], found.table[f"{side}_with"], strict=True)
        if others
    ]
    return [*lines, f"* {'; '.join(needs)}"] if needs else lines


def _pair_notes(pairs: Interactions) -> list[str]:
    lines = [
        f"both together: top-1 that two changes add beyond each alone; the {SHOWN} strongest pairs, all in --json",
        "SE: HC3; p: wild bootstrap, by itself and corrected for all pairs; both allow each design its own variance",
    ]
    if pairs.left_out:
        lines.append(f"left out: pairs without runs of all four combinations ({pairs.left_out})")
    return lines


def _accuracy_notes(found: Attribution) -> list[str]:
    """Return what the table of accuracies shows, and how far to trust it."""
    table = found.table
    lines = {
        "top-1 after the last epoch, percentage points; leave-one-out: all changes less all but this one; add-one-in: "
        "this one less none, by Welch's test with moderated variances": True,
        **dict.fromkeys(_shapley_notes(found), True),
        "caution: a gap of one seed (n 1) has no interval and no test: it may be noise": (
            (table[[f"{side}_n" for side in SIDES]] == 1).to_numpy().any()
        ),
        "95 %: each interval by itself; of such intervals one in twenty misses by chance": (
            table[["loo_low", "aoi_low", "shapley_low"]].notna().to_numpy().any()
        ),
        _interaction_note(found.interactions): True,
        f"caution: {found.unfinished} failed or unfinished runs of these sets are left out": found.unfinished,
    }
    return [line for line, holds in lines.items() if holds]


def _shapley_notes(found: Attribution) -> list[str]:
    table = found.table
    if not found.used_runs and not found.planned_orders:
        return [
            "Shapley: no sweep planned orders of these changes; `roadmap sweep study=orders` does, and for orders of "
            "some of the changes add its study=orders study.changes=[…] here"
        ]
    if not found.used_runs:
        return [f"Shapley: none of {found.planned_orders} planned orders has been run whole; rerun the sweep"]
    first, last = (np.mean([*found.samples[int(found.sets.same[mask])].values()]) for mask in (0, -1))
    used = "all" if found.whole else f"{found.used_orders} of {found.feasible_orders:,.0f}"
    model = ", with a ridge model of main effects and pairs as control variate" * found.control_variate
    by_orders, by_seeds = (table[f"shapley_se_{name}"].pow(2).mean() ** 0.5 for name in ("orders", "seeds"))
    lines = [
        f"Shapley: mean over {used} orders{model}, from {found.used_runs} runs; they sum to {last - first:+.2f}, top-1 "
        f"with all changes less that with none ({last:.2f} - {first:.2f})",
        f"SE: {by_orders:.2f} from which orders were drawn and {by_seeds:.2f} from seed noise, on average",
    ]
    if np.isnan(by_seeds):
        lines[1] = "caution: no set has two seeds, so seed noise is unknown; SE is a guess by the spread of orders"
    if not found.whole and not found.drawn:
        lines.append("caution: these orders were given, not drawn, so their error as a sample of all is unknown")
    return lines


def _interaction_note(pairs: Interactions | None) -> str:
    """Return whether interactions are large, as a sentence."""
    if pairs is None:
        return "interactions: too few designs for the changes' main effects"
    share = (
        f"interactions: by themselves the changes explain {100 * pairs.additive:.0f} % of the variance between "
        f"{pairs.sets} designs (adjusted R²)"
    )
    if np.isnan(pairs.f):
        return f"{share}; to test pairs takes more than {pairs.terms} designs"
    test = f"F({pairs.f_df[0]}, {pairs.f_df[1]}) = {pairs.f:.2f}, p {format_p(pairs.f_p)}"
    if pairs.f_p >= ALPHA:
        return f"{share}; pairs explain no more than chance would ({test}), which does not prove that there are none"
    significant = int((pairs.pairs["p_corrected"] < ALPHA).sum())
    return (
        f"{share}; pairs explain more than chance would ({test}), {significant} of {len(pairs.pairs)} by themselves "
        "after correction: what a change is worth depends on the others"
    )


def _summed(values: pd.Series) -> list[str]:
    return [number(value, "+.2f") for value in [*values, values.sum(skipna=False)]]


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return [*("" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends), ""]
