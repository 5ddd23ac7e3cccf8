"""Which change makes networks robust: one row per step with its corrupted accuracy, its gap, and a heat map."""

from dataclasses import replace

import altair as alt
import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.plots.charts import BLUE, SMALL, framed, inline, sentences, tooltips
from roadmap.plots.rows import BETWEEN, Rows, columns_of, diamonds, heat_map, step_gaps, test_words
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest

PLOT, ROW, CELL = 210, 25, 27  # pixels: width of a plot, height of a row, width of a cell of the heat map
TITLE = "change from the adopted step before (points)"
COLUMNS = (
    ("corrupted\n(%)", "top1", "{:.2f}"),
    ("clean\n(%)", "clean_top1", "{:.2f}", "faint"),
    ("Δ", "delta", "{:+.2f}"),
    ("p\n(Holm)", "delta_p_holm", "{:.3f}"),
)
GAPS = {"delta": "corrupted", "delta_low": "95 % from", "delta_high": "to", "clean_delta": "clean"}
ACCURACIES = {"top1": "corrupted", "top1_low": "95 % from", "top1_high": "to", "clean_top1": "clean"}


def robustness_chart(
    table: pd.DataFrame,
    by_corruption: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    words: str,
    test: GapTest = DEFAULT_TEST,
) -> alt.VConcatChart:
    """Return a chart with one row per step of ``robust_step_table``'s table.

    At the left the accuracies, in the middle the gaps, at the right the difference in points of each step from the
    first one evaluated on each corruption, from ``by_corruption``, the steps' mean accuracies. ``words`` says which
    images these are. Raises RequestError if no step was evaluated.
    """
    table = table.reset_index(drop=True)
    if table["top1"].isna().all():
        raise RequestError("no figure to draw: no step was evaluated on corrupted images")
    table = table.assign(row=range(len(table)))
    rows = Rows.of(table, ROW, PLOT, columns_of(table, COLUMNS))
    first = table.loc[table["top1"].notna()].iloc[0]
    heat = by_corruption.loc[list(table["step"])]
    heat = heat - heat.loc[first["step"]]
    gaps = step_gaps(rows, table, TITLE, "clean_delta", GAPS, test)
    right = replace(rows, width=CELL * len(heat.columns))
    chart = alt.hconcat(
        rows.chart(*_accuracies(rows, table), last=False),
        rows.chart(*gaps, first=False, last=False),
        right.chart(*_heat(right, heat), first=False),
        spacing=0 if any(rows.sections) else BETWEEN,  # bands fill the space
    )
    width = rows.total_width + PLOT + right.width + 2 * BETWEEN
    return framed(chart, title, subtitle, _caption(table, words, first["label"], test), width)


def _accuracies(rows: Rows, table: pd.DataFrame) -> list[alt.Chart]:
    """Accuracies on corrupted images with their intervals, and on clean images as diamonds."""
    low, high = np.nanmin(table[["top1", "clean_top1"]]), np.nanmax(table[["top1", "clean_top1"]])
    margin = 0.3 * max(high - low, 1.0)
    scale = alt.Scale(domain=[max(low - margin, 0.0), min(high + margin, 100.0)], nice=False, zero=False)
    base = alt.Chart(inline(table[["label", *ACCURACIES]].assign(own=table["row"] - 0.12, below=table["row"] + 0.24)))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", scale=scale, title="top-1 accuracy (%)", axis=alt.Axis(tickCount=5))

    points = base.transform_filter("datum.top1 != null").mark_point(style="mark", shape="circle", fill=BLUE)
    intervals = base.transform_filter("datum.top1_low != null").mark_rule(style="interval", clip=True)
    return [
        intervals.encode(x=x("top1_low"), x2="top1_high:Q", y=rows.y("own")),
        points.encode(x=x("top1"), y=rows.y("own"), tooltip=tooltips({"label": "change"}, ACCURACIES)),
        diamonds(rows, base, "clean_top1", "below", x("clean_top1")),
    ]


def _heat(rows: Rows, change: pd.DataFrame) -> list[alt.Chart]:
    """Whole points, the precision that a heat map can be read with."""
    names = [str(name).replace("_", " ") for name in change.columns]
    table = change.set_axis(names, axis=1).set_axis(pd.RangeIndex(len(change), name="row"), axis=0).reset_index()
    table = table.melt("row", names, "corruption", "change").dropna(subset="change")
    limit = max(table["change"].abs().max(), 1.0)
    table["cell"] = [f"{value:+d}" if value else "0" for value in table["change"].round().astype(int)]
    table["label"] = [rows.labels[row] for row in table["row"]]
    table["strong"] = table["change"].abs() > 0.6 * limit
    axis = alt.Axis(orient="top", labelAngle=-90, ticks=False, domain=False, labelFontSize=SMALL)
    x = alt.X("corruption:N", sort=None, axis=axis, title="change from the first step (points)")
    tooltip = tooltips({"label": "change", "corruption": "corruption"}, {"change": "from the first step"}, "+.2f")
    return heat_map(rows, table, x, "change", limit, {"color": "white"}, tooltip=tooltip)


def _caption(table: pd.DataFrame, words: str, first: str, test: GapTest) -> str:
    counts = table.loc[table["top1"].notna(), "n"]
    seeds = " to ".join(map(str, sorted({counts.min(), counts.max()})))
    parts = {
        f"Diamonds: clean images. Corrupted: {words}; mean over these, not normalised (no mCE).": True,
        "One seed each: no interval, gaps may be noise.": counts.max() == 1,
        f"Means over {seeds} seeds, 95 % t-intervals.": counts.max() > 1,
        test_words(table, test): (table["outcome"] != "").any(),
        f"Heat map: mean accuracy minus that of {first}, in whole points.": True,
    }
    return sentences(parts)
