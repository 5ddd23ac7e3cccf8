"""How changes depend on each other, two by two: accuracy below the diagonal, MACs above it."""

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.attribution import shapley
from roadmap.attribution.attribution import Attribution
from roadmap.attribution.interactions import Interactions
from roadmap.attribution.text import interactions_of, mac_unit
from roadmap.comparison.statistics import ALPHA
from roadmap.plots.charts import framed, inline, tooltips
from roadmap.plots.rows import Rows, one_line
from roadmap.plots.theme import SMALL

CELL, ROW = 44, 26  # pixels


def interactions_chart(found: Attribution, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one cell per two changes: above the diagonal the Shapley interaction of their MACs, exact;
    below it that of their accuracy by least squares, in percentage points, as far as runs tell it.
    """
    factor, unit = mac_unit(found)
    pairs = interactions_of(found)
    above = shapley.interactions(found.sets.gmacs) * factor
    table = pd.DataFrame([*_upper(above), *_lower(pairs, found.sets.names)])
    labels = [f"{label} · {number}" for number, label in enumerate(one_line(found.table["label"]), 1)]
    rows = Rows(labels, [""] * len(labels), ROW, CELL * len(labels))
    below = "below the diagonal: top-1 (percentage points); " if pairs is not None and len(pairs.pairs) else ""
    chart = rows.chart(*_cells(rows, table, f"{below}above the diagonal: {unit}"))
    return framed(chart, title, subtitle, _caption(pairs, unit), rows.total_width)


def _upper(values: np.ndarray) -> Iterator[dict[str, object]]:
    rows, columns = np.triu_indices(len(values), 1)
    most = np.nanmax(np.abs(values[rows, columns]), initial=1e-12)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        value = float(values[row, column])
        yield {"row": row, "column": column + 1, "value": value, "share": value / most, "told": False}


def _lower(pairs: Interactions | None, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """The estimates; without any, no cells."""
    if pairs is None or not len(pairs.pairs):
        return
    known = {(names.index(row["second"]), names.index(row["first"])): row for row in pairs.pairs.to_dict("records")}
    most = max(pairs.pairs["estimate"].abs().max(), 1e-12)
    for row, column in zip(*(axis.tolist() for axis in np.tril_indices(len(names), -1)), strict=True):
        pair = known.get((row, column))
        value = pair["estimate"] if pair else float("nan")
        told = bool(pair and pair["p_holm"] < ALPHA)
        yield {"row": row, "column": column + 1, "value": value, "share": value / most, "told": told}


def _cells(rows: Rows, table: pd.DataFrame, title: str) -> list[alt.Chart]:
    """Cells with their numbers; the colours of each triangle reach to its own largest value."""
    texts = ["–" if pd.isna(v) else f"{v:+.2f}" if abs(v) >= 0.005 else "0" for v in table["value"]]
    names = {"one": [rows.labels[row] for row in table["row"]], "two": [rows.labels[n - 1] for n in table["column"]]}
    ends = {"top": table["row"] - 0.5, "bottom": table["row"] + 0.5}
    base = alt.Chart(inline(table.assign(cell=texts, **names, **ends)))
    axis = alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)
    x = alt.X("column:O", scale=alt.Scale(domain=list(range(1, len(rows.labels) + 1))), axis=axis, title=title)
    color = alt.Color(
        "share:Q", scale=alt.Scale(domain=[-1.6, 0, 1.6], range="diverging", interpolate="rgb"), legend=None
    )
    tooltip = tooltips({"one": "one", "two": "other"}, {"value": "beyond each alone"}, "+.4f")
    rectangles = base.transform_filter("datum.value != null").mark_rect()
    form: dict[str, Any] = {"style": "label", "align": "center", "fontSize": SMALL}
    plain = base.transform_filter("!datum.told").mark_text(**form)
    bold = base.transform_filter("datum.told").mark_text(fontWeight="bold", **form)
    return [
        rectangles.encode(x=x, y=rows.y("top"), y2="bottom:Q", color=color, tooltip=tooltip),
        plain.encode(x=x, y=rows.y(), text="cell:N"),
        bold.encode(x=x, y=rows.y(), text="cell:N"),
    ]


def _caption(pairs: Interactions | None, unit: str) -> str:
    parts = [
        "What two changes add beyond each alone; 0: less than 0.005.",
        f"{unit.split()[0]}: Shapley interaction index, exact.",
    ]
    missing = "–: one change needs the other"
    if pairs is not None and len(pairs.pairs):
        parts.append(
            f"Top-1: least squares over {pairs.sets} designs with {pairs.terms} terms; bold: p < {ALPHA:g}, corrected "
            f"for {len(pairs.pairs)} pairs (Holm). {missing}, or not all four combinations were run."
        )
    return " ".join(parts)
