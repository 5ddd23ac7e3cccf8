"""What each change is worth, four ways: the paper's gap, leave-one-out, add-one-in and Shapley value."""

import altair as alt
import pandas as pd

from roadmap.attribution.attribution import Attribution
from roadmap.comparison.groups import seeds_words
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, points, tooltips
from roadmap.plots.rows import Column, Rows, cells, gap_axis, gap_limit, one_line
from roadmap.plots.theme import BLUE, SKY, VERMILLION, WIDTH, YELLOW

ROW = 48  # pixels
TITLE = "change of top-1 accuracy (percentage points)"
# column of the table -> lane in rows below a row's middle, shape and colour
MARKS = {
    "paper": (-0.3, "diamond", YELLOW),
    "loo": (-0.1, "square", VERMILLION),
    "aoi": (0.1, "triangle-up", SKY),
    "shapley": (0.3, "circle", BLUE),
}


def attribution_chart(found: Attribution, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one row per change: its accuracy gaps, in percentage points, and their 95 % intervals.

    Raises RequestError if no gap and no Shapley value is known yet.
    """
    table = found.table.reset_index(drop=True)
    if table[["loo", "aoi", "shapley"]].isna().to_numpy().all():
        raise RequestError("no figure to draw: no change has a leave-one-out or add-one-in gap or a Shapley value yet")
    company = (table["loo_with"] != "") | (table["aoi_with"] != "")
    labels = [label + " *" * others for label, others in zip(one_line(table["label"]), company, strict=True)]
    ends = [f"{name}_{end}" for name in MARKS for end in ("low", "high")]
    limit, cut = gap_limit(table[list(MARKS)], table[ends])
    rows = Rows(labels, one_line(table["section"]), ROW, WIDTH, _columns(table))
    names = _names(found)
    kinds = {words: MARKS[name][1:] for name, words in names.items()}
    marks = _marks(rows, _long(table, names, limit), kinds, limit)
    return framed(rows.chart(*marks), title, subtitle, _caption(found, cut), rows.total_width)


def _names(found: Attribution) -> dict[str, str]:
    """The legend of each column that has a value, with how many runs it is from."""
    names = {"paper": "the paper's step"}
    for side, words in (("loo", "leave-one-out"), ("aoi", "add-one-in")):
        counts = found.table[f"{side}_n"].dropna()
        names[side] = f"{words} ({seeds_words(counts)})" if len(counts) else words
    orders = "all orders" if found.whole else f"{len(found.used)} order{'s' * (len(found.used) != 1)}"
    names["shapley"] = f"Shapley value ({orders}, {found.used_runs} runs)"
    return {name: words for name, words in names.items() if found.table[name].notna().any()}


def _long(table: pd.DataFrame, names: dict[str, str], limit: float) -> pd.DataFrame:
    """One row per change and way, intervals clipped to the axis."""
    parts = [
        pd.DataFrame(
            {
                "label": one_line(table["label"]),
                "y": table.index + MARKS[name][0],
                "way": words,
                "value": table[name],
                "low": table[f"{name}_low"],
                "high": table[f"{name}_high"],
            }
        )
        for name, words in names.items()
    ]
    long = pd.concat(parts).dropna(subset="value")
    return long.assign(start=long["low"].clip(-limit, limit), end=long["high"].clip(-limit, limit))


def _marks(rows: Rows, long: pd.DataFrame, kinds: dict[str, tuple[str, str]], limit: float) -> list[alt.Chart]:
    base = alt.Chart(inline(long))
    tooltip = tooltips({"label": "change", "way": "estimate"}, {"value": "Δ", "low": "95 % from", "high": "to"}, "+.2f")
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(style="zero")
    intervals = base.transform_filter("datum.start != null").mark_rule(style="interval")
    return [
        zero.encode(x=gap_axis("zero", limit, TITLE)),
        intervals.encode(x=gap_axis("start", limit, TITLE), x2="end:Q", y=rows.y("y")),
        points(base, kinds, "way", x=gap_axis("value", limit, TITLE), y=rows.y("y"), tooltip=tooltip),
    ]


def _columns(table: pd.DataFrame) -> list[Column]:
    spread = [
        "" if pd.isna(low) else f" ± {se:.2f}"
        for se, low in zip(table["shapley_se"], table["shapley_low"], strict=True)
    ]
    texts = {name: cells(table[name], "{:+.2f}", "–") for name in MARKS}
    columns = {
        "paper": Column("paper Δ", texts["paper"], "faint"),
        "loo": Column("leave-\none-out", texts["loo"]),
        "aoi": Column("add-\none-in", texts["aoi"]),
        "shapley": Column("Shapley\n± SE", [value + se for value, se in zip(texts["shapley"], spread, strict=True)]),
    }
    return [column for name, column in columns.items() if table[name].notna().any()]


def _caption(found: Attribution, cut: bool) -> str:
    table = found.table
    intervals = sum(int(table[f"{name}_low"].notna().sum()) for name in ("loo", "aoi", "shapley"))
    sampled = bool(found.used and not found.whole)
    guessed = table["shapley_low"].notna().any() and table["shapley_se_seeds"].isna().all()
    parts = [
        "Leave-one-out: all changes minus all but this one. Add-one-in: this one minus none. Shapley value: the mean "
        f"gain over the orders of all changes{', estimated from random orders' * sampled}.",
        f"Lines: 95 % intervals, each of our {intervals} on its own: one in twenty misses by chance."
        if intervals
        else "No interval: one seed, or one order.",
        "One seed each: the intervals of Shapley values are estimated from the spread of orders." if guessed else "",
        "Intervals that reach an edge continue beyond it." if cut else "",
        f"* {_company(table)}." if (table["loo_with"] + table["aoi_with"]).any() else "",
        "–: not run yet." if table[["loo", "aoi"]].isna().to_numpy().any() else "",
        "The paper's, on ImageNet-1K, for orientation." if table["paper"].notna().any() else "",
    ]
    return " ".join(filter(None, parts))


def _company(table: pd.DataFrame) -> str:
    labels = dict(zip(table["change"], one_line(table["label"]), strict=True))
    words = []
    for side, verb in (("loo", "leaves with"), ("aoi", "comes with")):
        for label, others in zip(labels.values(), table[f"{side}_with"], strict=True):
            if others:
                words.append(f"{label} {verb} {' and '.join(labels[other] for other in others.split())}")
    return "; ".join(words)
