"""What each change is worth, four ways: the paper's gap, leave-one-out, add-one-in and Shapley value."""

import altair as alt
import pandas as pd

from roadmap.attribution.attribution import Attribution
from roadmap.attribution.text import NEEDS
from roadmap.comparison.groups import seeds_words
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, sentences
from roadmap.plots.rows import Rows, columns_of, format_cell, gap_limit, gap_marks, one_line
from roadmap.plots.theme import BLUE, SKY, VERMILLION, WIDTH, YELLOW

ROW = 48  # pixels
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
    table = found.table.reset_index(drop=True)
    if table[["loo", "aoi", "shapley"]].isna().to_numpy().all():
        raise RequestError("no figure to draw: no change has a leave-one-out or add-one-in gap or a Shapley value yet")
    limit, cut = gap_limit(table[list(MARKS)], table[[f"{name}_{end}" for name in MARKS for end in ("low", "high")]])
    names = _names(found)
    gaps = pd.concat([_gaps(table, name, words) for name, words in names.items()])
    note = _needs(table)
    spread = [format_cell(se, " ± {:.2f}") for se in table["shapley_se"].where(table["shapley_low"].notna())]
    shapley = [None if pd.isna(v) else f"{v:+.2f}{se}" for v, se in zip(table["shapley"], spread, strict=True)]
    others = (table["loo_with"] != "") | (table["aoi_with"] != "")
    table = table.assign(
        shapley_text=pd.Series(shapley, dtype=object), label=table["label"] + others.map({True: " *", False: ""})
    )
    rows = Rows.of(table, ROW, WIDTH, columns_of(table, COLUMNS))
    kinds = {words: MARKS[name][1:] for name, words in names.items()}
    numbers = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to"}
    marks = gap_marks(rows, gaps.dropna(subset="delta"), kinds, limit, TITLE, numbers)
    return framed(rows.chart(*marks), title, subtitle, _caption(found, cut, note), rows.total_width)


def _names(found: Attribution) -> dict[str, str]:
    """The legend of each column that has a value, with how many runs it is from."""
    names = {"paper": "the paper's step"}
    for side, words in (("loo", "leave-one-out"), ("aoi", "add-one-in")):
        counts = found.table[f"{side}_n"].dropna()
        names[side] = f"{words} ({seeds_words(counts)})" if len(counts) else words
    orders = "all orders" if found.whole else f"{len(found.used)} order{'s' * (len(found.used) != 1)}"
    names["shapley"] = f"Shapley value ({orders}, {found.used_runs} runs)"
    return {name: words for name, words in names.items() if found.table[name].notna().any()}


def _gaps(table: pd.DataFrame, name: str, words: str) -> pd.DataFrame:
    values = table[[name, f"{name}_low", f"{name}_high"]].set_axis(["delta", "delta_low", "delta_high"], axis=1)
    return values.assign(label=one_line(table["label"]), y=table.index + MARKS[name][0], kind=words)


def _caption(found: Attribution, cut: bool, note: str) -> str:
    table = found.table
    intervals = sum(int(table[f"{name}_low"].notna().sum()) for name in ("loo", "aoi", "shapley"))
    sampled = ", estimated from random orders" if found.used and not found.whole else ""
    guessed = table["shapley_low"].notna().any() and table["shapley_se_seeds"].isna().all()
    parts = {
        "Leave-one-out: all changes minus all but this one. Add-one-in: this one minus none. Shapley value: the mean "
        f"gain over the orders of all changes{sampled}.": True,
        f"Lines: 95 % intervals, each of our {intervals} on its own: one in twenty misses by chance.": intervals,
        "No interval: one seed, or one order.": not intervals,
        "One seed each: the intervals of Shapley values are estimated from the spread of orders.": guessed,
        "Intervals that reach an edge continue beyond it.": cut,
        f"* {note}.": note,
        "–: not run yet.": table[["loo", "aoi"]].isna().to_numpy().any(),
        "The paper's, on ImageNet-1K, for orientation.": table["paper"].notna().any(),
    }
    return sentences(parts)


def _needs(table: pd.DataFrame) -> str:
    """Which changes only go with others."""
    labels = dict(zip(table["change"], one_line(table["label"]), strict=True))
    return "; ".join(
        f"{label} {verb} {' and '.join(labels[other] for other in others.split())}"
        for side, verb in NEEDS.items()
        for label, others in zip(labels.values(), table[f"{side}_with"], strict=True)
        if others
    )
