"""What each change is worth, four ways side by side: the paper's gap, leave-one-out, add-one-in and Shapley value."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roadmap.analysis.attribution import Attribution
from roadmap.analysis.figures.charts import seeds_words
from roadmap.analysis.figures.page import (
    Column,
    Texts,
    header_space,
    laid_out,
    legend_entries,
    row_sides,
    write_around,
    write_rows,
)
from roadmap.analysis.figures.style import BLUE, EDGE, GREY, GRID, INK, SKY, VERMILLION, YELLOW, save, styled
from roadmap.errors import RequestError

PLOT, ROW = 4.2, 0.52  # inches
MOST_CUT = 2.0  # how many times the largest value the axis reaches for the sake of wide intervals
# column of the table -> lane in rows below a row's middle, and mark
MARKS: dict[str, tuple[float, dict[str, Any]]] = {
    "paper": (-0.29, {"marker": "D", "mfc": YELLOW, "mec": EDGE, "markersize": 4.6}),
    "loo": (-0.1, {"marker": "s", "mfc": VERMILLION, "mec": INK, "markersize": 5}),
    "aoi": (0.09, {"marker": "^", "mfc": SKY, "mec": INK, "markersize": 5.6}),
    "shapley": (0.28, {"marker": "o", "mfc": BLUE, "mec": INK, "markersize": 5.6}),
}


def draw_attribution(found: Attribution, file: Path, *, title: str, subtitle: str) -> None:
    """Draw ``attribution_figure`` into ``file``, a png, svg or pdf."""
    save(lambda: attribution_figure(found, title, subtitle), file)


def attribution_figure(found: Attribution, title: str, subtitle: str) -> Figure:
    """A row a change with its accuracy gaps, in percentage points, and their 95 % intervals.

    Raises RequestError where no gap and no Shapley value is known yet.
    """
    table = found.table
    if table[["loo", "aoi", "shapley"]].isna().to_numpy().all():
        raise RequestError("no figure to draw: no change has a leave-one-out or add-one-in gap or a Shapley value yet")
    company = (table["loo_with"] != "") | (table["aoi_with"] != "")
    label = table["label"].astype(str).str.split().str.join(" ") + company.map({True: " *", False: ""})
    table = table.assign(label=label, section_number=(table["section"] != table["section"].shift()).cumsum() - 1)
    with styled():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        limit, cut = _limit(table)
        _draw_axis(axes, table, limit)
        for name, words in _names(found).items():
            _draw(axes, table, name, words, limit)
        columns = _columns(table)
        texts = Texts(title, subtitle, _note(found, cut))
        size = PLOT, ROW * len(table)
        page = laid_out(size, row_sides(table, columns), texts, list(legend_entries(figure)), header_space())
        figure.set_size_inches(page.width, page.height)
        axes.set_position(page.axes)
        write_rows(figure, page, table, columns)
        write_around(figure, page)
    return figure


def _names(found: Attribution) -> dict[str, str]:
    """What the legend calls each column that has a value, with how much it is from."""
    names = {"paper": "the paper's step"}
    for side, words in (("loo", "leave-one-out"), ("aoi", "add-one-in")):
        counts = found.table[f"{side}_n"].dropna()
        names[side] = f"{words} ({seeds_words(counts)})" if len(counts) else words
    orders = "all orders" if found.whole else f"{len(found.used)} order{'s' * (len(found.used) != 1)}"
    names["shapley"] = f"Shapley value ({orders}, {found.used_runs} runs)"
    return {name: words for name, words in names.items() if found.table[name].notna().any()}


def _limit(table: pd.DataFrame) -> tuple[float, bool]:
    """How far the axis goes either way, and whether intervals are cut: a few seeds make very wide ones."""
    shown = max(np.nanmax(np.abs(table[list(MARKS)].to_numpy(float))), 0.1)
    ends = table[[f"{name}_{end}" for name in MARKS for end in ("low", "high")]].to_numpy(float)
    widest = max(np.nanmax(np.abs(ends), initial=shown), shown)
    return min(widest, MOST_CUT * shown) * 1.06, widest > MOST_CUT * shown


def _draw_axis(axes: Axes, table: pd.DataFrame, limit: float) -> None:
    ticks = [tick for tick in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(-limit, limit) if abs(tick) <= limit]
    axes.set(xlim=(-limit, limit), ylim=(len(table) - 0.5, -0.5), yticks=[])
    axes.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axes.set_xlabel("change of top-1 accuracy (percentage points)")
    axes.grid(axis="x", color=GRID)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    axes.spines["left"].set_visible(False)


def _draw(axes: Axes, table: pd.DataFrame, name: str, words: str, limit: float) -> None:
    lane, mark = MARKS[name]
    known = table[table[f"{name}_low"].notna()]
    low, high = known[f"{name}_low"], known[f"{name}_high"]
    color = EDGE if name == "paper" else INK
    axes.hlines(known.index + lane, low.clip(-limit, limit), high.clip(-limit, limit), color=color, linewidth=1)
    for ends, sign in ((low, "<"), (high, ">")):
        cut = ends.abs() > limit
        caps: dict[str, Any] = {"linestyle": "none", "color": color, "clip_on": False}
        axes.plot(ends.clip(-limit, limit)[cut], known.index[cut] + lane, sign, markersize=3.5, **caps)
        axes.plot(ends[~cut], known.index[~cut] + lane, "|", markersize=4.5, **caps)
    rows = table[table[name].notna()]
    axes.plot(rows[name], rows.index + lane, label=words, linestyle="none", zorder=3, **mark)


def _columns(table: pd.DataFrame) -> list[Column]:
    def cells(name: str) -> list[str]:
        return ["–" if pd.isna(value) else f"{value:+.2f}" for value in table[name]]

    spread = [
        "" if pd.isna(low) else f" ± {se:.2f}"
        for se, low in zip(table["shapley_se"], table["shapley_low"], strict=True)
    ]
    shapley = [value + error for value, error in zip(cells("shapley"), spread, strict=True)]
    columns = {"paper": Column("paper Δ", [cells("paper")], (GREY,))}
    columns |= {"loo": Column("leave-\none-out", [cells("loo")]), "aoi": Column("add-\none-in", [cells("aoi")])}
    columns |= {"shapley": Column("Shapley\n± SE", [shapley])}
    return [column for name, column in columns.items() if table[name].notna().any()]


def _note(found: Attribution, cut: bool) -> str:
    table = found.table
    intervals = sum(int(table[f"{name}_low"].notna().sum()) for name in ("loo", "aoi", "shapley"))
    guessed = table["shapley_low"].notna().any() and table["shapley_se_seeds"].isna().all()
    parts = [
        "Leave-one-out: all changes less all but this one. Add-one-in: this one less none. Shapley value: the mean of "
        "what it adds over the orders of all changes",
        ", estimated from random orders." if found.used and not found.whole else ".",
        f" Bars: 95 % intervals, each of our {intervals} by itself: one in twenty misses by chance."
        if intervals
        else " No interval: one seed, or one order.",
        " Shapley values' are guesses by the spread of orders: one seed each." if guessed else "",
        " < and >: the interval goes on." if cut else "",
        f" * {_company(table)}." if (table["loo_with"] + table["aoi_with"]).any() else "",
        " –: not run yet." if table[["loo", "aoi"]].isna().to_numpy().any() else "",
        " The paper's, on ImageNet-1K, for orientation." if table["paper"].notna().any() else "",
    ]
    return "".join(parts)


def _company(table: pd.DataFrame) -> str:
    labels = dict(zip(table["change"], table["label"], strict=True))
    words = []
    for side, verb in (("loo", "leaves with"), ("aoi", "comes with")):
        for label, others in zip(table["label"], table[f"{side}_with"], strict=True):
            if others:
                words.append(f"{label} {verb} {' and '.join(labels[other] for other in others.split())}")
    return "; ".join(words)
