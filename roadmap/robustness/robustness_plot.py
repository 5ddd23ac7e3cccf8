"""Which change makes networks robust: one row per step with its corrupted accuracy, its gap, and a heat map."""

from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.comparison.statistics import ALPHA
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, tooltips
from roadmap.plots.rows import BETWEEN, Column, Rows, cells, diamonds, gap_kinds, gap_limit, gap_marks, one_line
from roadmap.plots.theme import BLUE, SMALL

PLOT, ROW, CELL = 210, 25, 27  # pixels: width of a plot, height of a row, width of a cell of the heat map


def robustness_chart(
    table: pd.DataFrame, by_corruption: pd.DataFrame, *, title: str, subtitle: str, words: str
) -> alt.VConcatChart:
    """Return a chart with one row per step of ``robust_step_table``'s table.

    At the left the accuracy on corrupted images, ``top1`` with ``top1_low`` to ``top1_high``, and ``clean_top1``; in
    the middle ``delta`` with ``delta_low`` to ``delta_high``, and ``clean_delta``; at the right the difference in
    points of each step from the first one evaluated on each corruption, from ``by_corruption``, the steps' mean
    accuracies. ``words`` says which images these are. Raises RequestError if no step was evaluated.
    """
    table = table.reset_index(drop=True)
    if table["top1"].isna().all():
        raise RequestError("no figure to draw: no step was evaluated on corrupted images")
    kinds = gap_kinds(table["delta"], table["delta_p_holm"] < ALPHA, table["delta_low"].notna())
    table = table.assign(label=one_line(table["label"]), row=range(len(table)), kind=kinds)
    rows = Rows(table["label"].tolist(), one_line(table["section"]), ROW, PLOT, _columns(table))
    first = table.loc[table["top1"].notna()].iloc[0]
    heat = by_corruption.loc[list(table["step"])]
    heat = heat - heat.loc[first["step"]]
    limit, cut = gap_limit(table[["delta", "clean_delta"]], table[["delta_low", "delta_high"]])
    heading = "change from the adopted step before (points)"
    gaps = gap_marks(rows, table[_SHOWN], limit, heading, "clean_delta", _tooltip("delta", "clean_delta"))
    right = replace(rows, width=CELL * len(heat.columns))
    chart = alt.hconcat(
        rows.chart(*_accuracies(rows, table), last=False),
        rows.chart(*gaps, first=False, last=False),
        right.chart(*_heat(right, heat), first=False),
        spacing=0 if any(rows.sections) else BETWEEN,  # bands fill the space
    )
    width = rows.total_width + PLOT + right.width + 2 * BETWEEN
    return framed(chart, title, subtitle, _caption(table, words, first["label"], cut), width)


_SHOWN = ["row", "label", "kind", "delta", "delta_low", "delta_high", "delta_p_holm", "clean_delta"]


def _tooltip(own: str, clean: str) -> list[alt.Tooltip]:
    return tooltips(
        {"label": "change"}, {own: "corrupted", f"{own}_low": "95 % from", f"{own}_high": "to", clean: "clean"}
    )


def _accuracies(rows: Rows, table: pd.DataFrame) -> list[alt.Chart]:
    """Accuracies on corrupted images with their intervals, and on clean images as diamonds."""
    values = table[["top1", "clean_top1"]]
    low, high = values.min().min(), values.max().max()
    span = max(high - low, 1.0)
    left = max(np.nanmin([table["top1_low"].min(), low]), low - 0.6 * span, 0.0) - 0.05 * span
    right = min(np.nanmax([table["top1_high"].max(), high]), high + 0.6 * span, 100.0) + 0.05 * span
    ends = {"low": table["top1_low"].clip(left, right), "high": table["top1_high"].clip(left, right)}
    columns = ["row", "label", "top1", "top1_low", "top1_high", "clean_top1"]
    base = alt.Chart(inline(table[columns].assign(**ends, own=table["row"] - 0.12, below=table["row"] + 0.24)))

    def x(column: str) -> alt.X:
        scale = alt.Scale(domain=[max(left, 0.0), min(right, 100.0)], nice=False, zero=False)
        return alt.X(f"{column}:Q", scale=scale, title="top-1 accuracy (%)", axis=alt.Axis(tickCount=5))

    points = base.transform_filter("datum.top1 != null").mark_point(style="mark", shape="circle", fill=BLUE)
    intervals = base.transform_filter("datum.low != null").mark_rule(style="interval")
    return [
        intervals.encode(x=x("low"), x2="high:Q", y=rows.y("own")),
        points.encode(x=x("top1"), y=rows.y("own"), tooltip=_tooltip("top1", "clean_top1")),
        diamonds(rows, base, "clean_top1", "below", x("clean_top1")),
    ]


def _heat(rows: Rows, change: pd.DataFrame) -> list[alt.Chart]:
    """Whole points, the precision that a heat map can be read with."""
    limit = max(np.nanmax(np.abs(change.to_numpy(float))), 1.0)
    table = pd.DataFrame(
        {
            "row": row,
            "top": row - 0.5,
            "bottom": row + 0.5,
            "label": rows.labels[row],
            "corruption": str(name).replace("_", " "),
            "change": change.iloc[row][name],
        }
        for row in range(len(change))
        for name in change.columns
    ).dropna(subset="change")
    points = table["change"].round().astype(int)
    table = table.assign(
        cell=[f"{value:+d}" if value else "0" for value in points], strong=abs(table["change"]) > 0.6 * limit
    )
    axis = alt.Axis(orient="top", labelAngle=-90, ticks=False, domain=False, labelFontSize=SMALL)
    x = alt.X("corruption:N", sort=None, axis=axis, title="change from the first step (points)")
    base = alt.Chart(inline(table))
    color = alt.Color(
        "change:Q", scale=alt.Scale(domain=[-limit, 0, limit], range="diverging", interpolate="rgb"), legend=None
    )
    tooltip = tooltips({"label": "change", "corruption": "corruption"}, {"change": "from the first step"}, "+.2f")
    texts: dict[str, Any] = {"align": "center", "fontSize": SMALL}
    return [
        base.mark_rect().encode(x=x, y=rows.y("top"), y2="bottom:Q", color=color, tooltip=tooltip),
        base.transform_filter("!datum.strong").mark_text(style="label", **texts).encode(x=x, y=rows.y(), text="cell:N"),
        base.transform_filter("datum.strong").mark_text(color="white", **texts).encode(x=x, y=rows.y(), text="cell:N"),
    ]


def _columns(table: pd.DataFrame) -> list[Column]:
    columns = [
        Column("corrupted\n(%)", cells(table["top1"])),
        Column("clean\n(%)", cells(table["clean_top1"]), "faint"),
        Column("Δ", cells(table["delta"], "{:+.2f}")),
        Column("p\n(Holm)", cells(table["delta_p_holm"], "{:.3f}")),
    ]
    return [column for column in columns if any(column.cells)]


def _caption(table: pd.DataFrame, words: str, first: str, cut: bool) -> str:
    counts = table.loc[table["top1"].notna(), "n"]
    seeds = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts.max())
    tested = int(table["delta_p_holm"].notna().sum())
    parts = [
        f"Diamonds: clean images. Corrupted: {words}; mean over these, not normalised (no mCE).",
        "One seed each: no interval, gaps may be noise."
        if counts.max() == 1
        else f"Means over {seeds} seeds, 95 % t-intervals.",
        f"Outside noise: p < {ALPHA:g}, corrected for {tested} comparisons (Holm)." if tested else "",
        "Intervals that reach an edge continue beyond it." if cut else "",
        f"Heat map: mean accuracy minus that of {first}, in whole points.",
    ]
    return " ".join(filter(None, parts))
