"""How changes depend on each other, two by two: accuracy below the diagonal, MACs above it."""

from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd

from roadmap.attribution import shapley
from roadmap.attribution.attribution import Attribution
from roadmap.attribution.text import interactions_of, mac_unit
from roadmap.comparison.statistics import ALPHA
from roadmap.plots.charts import framed, sentences, tooltips
from roadmap.plots.rows import Rows, heat_map, one_line

CELL, ROW = 44, 26  # pixels
NAN = float("nan")


def interactions_chart(found: Attribution, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one cell per two changes: above the diagonal the Shapley interaction of their MACs, exact;
    below it the interaction of their accuracy by least squares, in percentage points, where enough runs are there.
    """
    factor, unit = mac_unit(found)
    pairs = interactions_of(found)
    macs = shapley.interactions(found.sets.gmacs) * factor
    known = {} if pairs is None else {(pair["first"], pair["second"]): pair for pair in pairs.pairs.to_dict("records")}
    above: list[dict[str, Any]] = []
    below: list[dict[str, Any]] = []
    for (i, one), (j, other) in combinations(enumerate(found.sets.names), 2):
        above.append({"row": i, "column": j + 1, "value": float(macs[i, j]), "strong": False})
        pair = known.get((one, other), {"estimate": NAN, "p_holm": NAN})
        below.append({"row": j, "column": i + 1, "value": pair["estimate"], "strong": bool(pair["p_holm"] < ALPHA)})
    table = pd.concat([_shaded(above), *([_shaded(below)] if known else [])], ignore_index=True)
    labels = [f"{label} · {number}" for number, label in enumerate(one_line(found.table["label"]), 1)]
    rows = Rows(labels, [""] * len(labels), ROW, CELL * len(labels))
    heading = "below the diagonal: top-1 (percentage points); " if known else ""
    chart = rows.chart(*_cells(rows, table, f"{heading}above the diagonal: {unit}"))
    parts = {
        "What two changes add beyond each alone; 0: less than 0.005.": True,
        f"{unit.split()[0]}: Shapley interaction index, exact.": True,
    }
    if pairs is not None and known:
        parts[
            f"Top-1: least squares over {pairs.sets} designs with {pairs.terms} terms; bold: p < {ALPHA:g}, corrected "
            f"for {len(known)} pairs (Holm). –: one change needs the other, or not all four combinations were run."
        ] = True
    return framed(chart, title, subtitle, sentences(parts), rows.total_width)


def _shaded(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The cells of a triangle, each with its share of the triangle's largest value."""
    table = pd.DataFrame(cells, columns=["row", "column", "value", "strong"])
    return table.assign(share=table["value"] / max(table["value"].abs().max(), 1e-12))


def _cells(rows: Rows, table: pd.DataFrame, title: str) -> list[alt.Chart]:
    """Cells with their numbers; the colours of each triangle reach to its own largest value."""
    texts = ["–" if pd.isna(v) else f"{v:+.2f}" if abs(v) >= 0.005 else "0" for v in table["value"]]
    names = {"one": [rows.labels[row] for row in table["row"]], "two": [rows.labels[n - 1] for n in table["column"]]}
    axis = alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)
    x = alt.X("column:O", scale=alt.Scale(domain=list(range(1, len(rows.labels) + 1))), axis=axis, title=title)
    tooltip = tooltips({"one": "one", "two": "other"}, {"value": "beyond each alone"}, "+.4f")
    return heat_map(rows, table.assign(cell=texts, **names), x, "share", 1.6, {"fontWeight": "bold"}, tooltip=tooltip)
