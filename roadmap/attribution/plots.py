"""Charts of an attribution: what each change is worth, four ways, and how changes depend on each other."""

from itertools import combinations
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.attribution import shapley
from roadmap.attribution.attribution import SIDES, Attribution
from roadmap.attribution.text import NEEDS
from roadmap.comparison.groups import seeds_words
from roadmap.errors import RequestError
from roadmap.plots.charts import BLUE, SKY, VERMILLION, WIDTH, YELLOW, framed, sentences, tooltips
from roadmap.plots.rows import Rows, columns_of, format_cell, gap_limit, gap_marks, heat_map
from roadmap.statistics.correction import ALPHA

CELL = ["row", "column", "value", "strong"]
TITLE = "change of top-1 accuracy (percentage points)"
# column of the table -> rows below a row's middle, shape and colour
MARKS = {
    "paper": (-0.3, "diamond", YELLOW),
    "loo": (-0.1, "square", VERMILLION),
    "aoi": (0.1, "triangle-up", SKY),
    "shapley": (0.3, "circle", BLUE),
}
COLUMNS = (
    ("paper Δ", "paper", "{:+.2f}", "faint", "–"),
    ("leave-\none-out", "loo", "{:+.2f}", "number", "–"),
    ("add-\none-in", "aoi", "{:+.2f}", "number", "–"),
    ("Shapley\n± SE", "shapley_text", "{}", "number", "–"),
)


def attribution_chart(found: Attribution, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one row per change: its accuracy gaps, in percentage points, and their 95 % intervals.

    Raises RequestError if no gap and no Shapley value is known yet.
    """
    table = found.table.assign(paper_low=np.nan, paper_high=np.nan)
    if table[["loo", "aoi", "shapley"]].isna().to_numpy().all():
        raise RequestError("no figure to draw: no change has a leave-one-out or add-one-in gap or a Shapley value yet")
    limit = gap_limit(table[list(MARKS)], table[[f"{name}_{end}" for name in MARKS for end in ("low", "high")]])
    labels, names = [*table["label"]], _legend(found)
    gaps = pd.concat(
        table[[name, f"{name}_low", f"{name}_high"]]
        .set_axis(["delta", "delta_low", "delta_high"], axis=1)
        .assign(label=labels, y=table.index + MARKS[name][0], kind=words)
        for name, words in names.items()
    )
    spread = [format_cell(se, " ± {:.2f}") for se in table["shapley_se"].where(table["shapley_low"].notna())]
    values = [None if pd.isna(v) else f"{v:+.2f}{se}" for v, se in zip(table["shapley"], spread, strict=True)]
    others = (table["loo_with"] != "") | (table["aoi_with"] != "")
    table = table.assign(
        shapley_text=pd.Series(values, dtype=object), label=table["label"] + others.map({True: " *", False: ""})
    )
    rows = Rows.of(table, 48, WIDTH, columns_of(table, COLUMNS))
    kinds = {words: MARKS[name][1:] for name, words in names.items()}
    numbers = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to"}
    marks = gap_marks(rows, gaps.dropna(subset="delta"), kinds, limit, TITLE, numbers)
    return framed(rows.chart(*marks), title, subtitle, _caption(found, labels), rows.total_width)


def _legend(found: Attribution) -> dict[str, str]:
    """Return the name of each column that has a value, with how many runs it is from."""
    names = {"paper": "the paper's step"}
    for side, words in SIDES.items():
        counts = found.table[f"{side}_n"].dropna()
        names[side] = f"{words} ({seeds_words(counts)})" if len(counts) else words
    orders = "all orders" if found.whole else f"{found.used_orders} order{'s' * (found.used_orders != 1)}"
    names["shapley"] = f"Shapley value ({orders}, {found.used_runs} runs)"
    return {name: words for name, words in names.items() if found.table[name].notna().any()}


def _caption(found: Attribution, labels: list[str]) -> str:
    table = found.table
    by_name = dict(zip(table["change"], labels, strict=True))
    needs = "; ".join(
        f"{label} {verb} {' and '.join(by_name[other] for other in others.split())}"
        for side, verb in NEEDS.items()
        for label, others in zip(labels, table[f"{side}_with"], strict=True)
        if others
    )
    sampled = ", estimated from random orders" if found.used_orders else ""
    intervals = table[["loo_low", "aoi_low", "shapley_low"]].notna().to_numpy().any()
    parts = {
        "Leave-one-out: all changes minus all but this one. Add-one-in: this one minus none. Shapley value: the mean "
        f"gain over the orders of all changes{sampled}.": True,
        "Lines: 95 % intervals, each on its own: one in twenty misses by chance.": intervals,
        f"* {needs}.": needs,
        "–: not run yet.": table[["loo", "aoi"]].isna().to_numpy().any(),
        "The paper's, on ImageNet-1K, for orientation.": table["paper"].notna().any(),
    }
    return sentences(parts)


def interactions_chart(found: Attribution, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one cell per two changes: above the diagonal the Shapley interaction of their MACs, exact;
    below it the interaction of their accuracy by least squares, in percentage points, if there are enough runs.
    """
    factor, unit = found.mac_unit
    macs, pairs = shapley.interactions(found.sets.gmacs) * factor, found.interactions
    known = {(p["first"], p["second"]): p for p in pairs.pairs.to_dict("records")} if pairs else {}
    above: list[dict[str, Any]] = []
    below: list[dict[str, Any]] = []
    for (i, one), (j, other) in combinations(enumerate(found.sets.names), 2):
        above.append({"row": i, "column": j + 1, "value": float(macs[i, j]), "strong": False})
        pair = known.get((one, other), {"estimate": np.nan, "p_corrected": np.nan})
        below.append(
            {"row": j, "column": i + 1, "value": pair["estimate"], "strong": bool(pair["p_corrected"] < ALPHA)}
        )
    triangles = [pd.DataFrame(cells, columns=CELL) for cells in ([above, below] if known else [above])]
    table = pd.concat([one.assign(share=one["value"] / max(one["value"].abs().max(), 1e-12)) for one in triangles])
    labels = [f"{label} · {number}" for number, label in enumerate(found.table["label"], 1)]
    rows = Rows(labels, [""] * len(labels), 26, 44 * len(labels))
    heading = "below the diagonal: top-1 (percentage points); " if known else ""
    chart = rows.chart(*_cells(rows, table, f"{heading}above the diagonal: {unit}"))
    parts = {
        "What two changes add beyond each alone; 0: less than 0.005.": True,
        f"{unit.split()[0]}: Shapley interaction index, exact.": True,
    }
    if pairs is not None and known:
        parts[
            f"Top-1: least squares over {pairs.sets} designs with {pairs.terms} terms; bold: p < {ALPHA:g} by the wild "
            f"bootstrap for {len(known)} pairs. –: one change needs the other, or not all four combinations were run."
        ] = True
    return framed(chart, title, subtitle, sentences(parts), rows.total_width)


def _cells(rows: Rows, table: pd.DataFrame, title: str) -> list[alt.Chart]:
    """Return cells with their numbers; the colours of each triangle extend to its own largest value."""
    texts = ["–" if pd.isna(v) else f"{v:+.2f}" if abs(v) >= 0.005 else "0" for v in table["value"]]
    names = {"one": [rows.labels[row] for row in table["row"]], "two": [rows.labels[n - 1] for n in table["column"]]}
    axis = alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)
    x = alt.X("column:O", scale=alt.Scale(domain=list(range(1, len(rows.labels) + 1))), axis=axis, title=title)
    tooltip = tooltips({"one": "one", "two": "other"}, {"value": "beyond each alone"}, "+.4f")
    return heat_map(rows, table.assign(cell=texts, **names), x, "share", 1.6, {"fontWeight": "bold"}, tooltip=tooltip)
