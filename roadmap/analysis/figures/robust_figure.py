"""Which change buys robustness: a row a step with its corrupted accuracy, its gap to the parent, and a heat map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roadmap.analysis.figures.page import (
    GAP,
    Column,
    Page,
    Texts,
    header_space,
    laid_out,
    legend_entries,
    row_sides,
    write_around,
    write_rows,
)
from roadmap.analysis.figures.style import (
    BLUE,
    EDGE,
    GREY,
    GRID,
    INK,
    SMALL,
    TEXT,
    VERMILLION,
    YELLOW,
    save,
    styled,
    width,
)
from roadmap.analysis.statistics import ALPHA
from roadmap.errors import RequestError

PLOT, BETWEEN, ROW = 2.5, 0.3, 0.28  # inches: a plot's width, the space between two, a row's height
OURS, CLEAN = -0.12, 0.24  # in rows below the middle of a row
HEAT = "change to the first\nstep (points)"
CUT = 2.5  # an interval goes on at most so many times as far as the values
DIVERGING = LinearSegmentedColormap.from_list("vermillion to blue", [VERMILLION, "white", BLUE])


def draw_robustness(
    table: pd.DataFrame, by_corruption: pd.DataFrame, file: Path, *, title: str, subtitle: str, words: str
) -> None:
    """Draw ``robustness_figure`` into ``file``, a png, svg or pdf."""
    save(lambda: robustness_figure(table, by_corruption, title, subtitle, words), file)


def robustness_figure(
    table: pd.DataFrame, by_corruption: pd.DataFrame, title: str, subtitle: str, words: str
) -> Figure:
    """A row a step of ``robust_road``'s table; ``by_corruption`` has the steps' mean accuracy on each corruption.

    At the left the accuracy on corrupted images, ``top1`` with ``top1_low`` to ``top1_high``, beside ``clean_top1``; in
    the middle ``delta`` with ``delta_low`` to ``delta_high``, beside ``clean_delta``; at the right how far each step is
    from the first one evaluated on each corruption, in points. ``words`` says which images these are. Raises
    RequestError where no step was evaluated.
    """
    table = table.reset_index(drop=True)
    if table["top1"].isna().all():
        raise RequestError("no figure to draw: no step was evaluated on corrupted images")
    lines = {name: table[name].astype(str).str.split().str.join(" ") for name in ("label", "section")}
    table = table.assign(**lines)
    table["section_number"] = (table["section"] != table["section"].shift()).cumsum() - 1
    heat = by_corruption.loc[list(table["step"])]
    names = [str(name).replace("_", " ") for name in heat.columns]
    first = str(table.loc[table["top1"].notna(), "step"].iloc[0])
    with styled():
        figure = Figure()
        cell = max(width(_cells(heat - heat.loc[first]).ravel(), SMALL) + 0.08, 0.24)
        cell = max(cell, width(HEAT.split("\n"), TEXT) / len(names))
        widths = [PLOT, PLOT, cell * len(names)]
        plots = [figure.add_axes((0, 0, 1, 1), label=str(number)) for number in range(3)]
        _draw_accuracies(plots[0], table)
        cut = _draw_gaps(plots[1], table)
        _draw_heat(plots[2], heat - heat.loc[first], names)
        columns = _columns(table)
        texts = Texts(title, subtitle, _note(table, words, _label(table, first), cut))
        inside = sum(widths) + BETWEEN * 2, ROW * len(table)
        above = max(header_space(), width(names, SMALL) + GAP)
        page = laid_out(inside, row_sides(table, columns), texts, list(legend_entries(figure)), above)
        figure.set_size_inches(page.width, page.height)
        _place(plots, page, widths)
        _write_headings(figure, page, widths)
        write_rows(figure, page, table, columns)
        write_around(figure, page)
    return figure


def _label(table: pd.DataFrame, step: str) -> str:
    return str(table.loc[table["step"] == step, "label"].iloc[0])


def _place(plots: Sequence[Axes], page: Page, widths: Sequence[float]) -> None:
    left = page.left
    for axes, wide in zip(plots, widths, strict=True):
        height = page.top - page.bottom
        axes.set_position((left / page.width, page.bottom / page.height, wide / page.width, height / page.height))
        left += wide + BETWEEN


def _write_headings(figure: Figure, page: Page, widths: Sequence[float]) -> None:
    """What the first two plots show, above them; the third has its columns' names there."""
    left = page.left
    headings = "accuracy", "change to the adopted step before"
    for heading, wide in zip(headings, widths, strict=False):
        x, y = left + wide / 2, page.top + GAP / 3
        figure.text(x, y, heading, ha="center", va="bottom", size=SMALL, transform=figure.dpi_scale_trans)
        left += wide + BETWEEN


def _rows(axes: Axes, table: pd.DataFrame, label: str) -> None:
    axes.set(ylim=(len(table) - 0.5, -0.5), yticks=[], xlabel=label)
    axes.grid(axis="x", color=GRID)
    axes.spines["left"].set_visible(False)


CLEAN_MARK: dict[str, Any] = {"linestyle": "none", "mfc": YELLOW, "mec": EDGE, "markersize": 4.6, "zorder": 2.5}


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """The axis of accuracies in percent: as far as the intervals go, but no farther than far beside the values."""
    values = table[["top1", "clean_top1"]].stack()
    low, high = values.min(), values.max()
    span = max(high - low, 1.0)
    left = np.nanmin([table["top1_low"].min(), low])
    right = np.nanmax([table["top1_high"].max(), high])
    left, right = max(left, low - 0.6 * span, 0.0), min(right, high + 0.6 * span, 100.0)
    return left - 0.05 * span, right + 0.05 * span


def _draw_accuracies(axes: Axes, table: pd.DataFrame) -> None:
    ends = _limits(table)
    known = table[table["top1_low"].notna()]
    axes.set_xlim(*ends)
    ticks = [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*ends) if ends[0] <= tick <= ends[1]]
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= 100])
    _rows(axes, table, "top-1 (%)")
    axes.hlines(known.index + OURS, known["top1_low"].clip(*ends), known["top1_high"].clip(*ends), color=INK, lw=1.1)
    corrupted: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "mfc": BLUE,
        "mec": INK,
        "markersize": 5.5,
        "zorder": 3,
    }
    axes.plot(table["top1"], table.index + OURS, label="on corrupted images", **corrupted)
    axes.plot(table["clean_top1"], table.index + CLEAN, "D", label="on the images as they are", **CLEAN_MARK)


def _draw_gaps(axes: Axes, table: pd.DataFrame) -> bool:
    """The gaps with their intervals; whether an interval is cut at the edge."""
    shown = max(np.nanmax(np.abs(table[["delta", "clean_delta"]].to_numpy()), initial=0.1), 0.1)
    ends = table[["delta_low", "delta_high"]].abs().max().max()
    widest = shown if pd.isna(ends) else max(ends, shown)
    limit = min(widest, CUT * shown) * 1.06
    ticks = [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(-limit, limit) if abs(tick) <= limit]
    axes.set_xlim(-limit, limit)
    axes.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    _rows(axes, table, "percentage points")
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    known = table[table["delta_low"].notna()]
    low, high = known["delta_low"].clip(-limit, limit), known["delta_high"].clip(-limit, limit)
    axes.hlines(known.index + OURS, low, high, color=INK, linewidth=1.1, zorder=2)
    outside = table["delta_p_holm"] < ALPHA
    marks: Sequence[tuple[str, pd.Series, dict[str, Any]]] = (
        ("gain outside noise", outside & (table["delta"] > 0), {"marker": "^", "mfc": BLUE}),
        ("loss outside noise", outside & (table["delta"] < 0), {"marker": "v", "mfc": VERMILLION}),
        ("within noise", ~outside & table["delta_low"].notna(), {"marker": "o", "mfc": "white"}),
        ("noise unknown", table["delta"].notna() & table["delta_low"].isna(), {"marker": "x", "mfc": "none"}),
    )
    for label, which, form in marks:
        if which.any():
            drawn = {"linestyle": "none", "markersize": 6, "mec": INK, "zorder": 3, **form}
            axes.plot(table["delta"][which], table.index[which] + OURS, label=label, **drawn)
    axes.plot(table["clean_delta"], table.index + CLEAN, "D", **CLEAN_MARK)
    return bool(widest > CUT * shown)


def _draw_heat(axes: Axes, change: pd.DataFrame, names: Sequence[str]) -> None:
    values = change.to_numpy(float)
    limit = max(np.nanmax(np.abs(values)), 1.0)
    scale = Normalize(-limit, limit)
    axes.imshow(values, cmap=DIVERGING, norm=scale, aspect="auto", interpolation="nearest")
    for (row, column), cell in np.ndenumerate(_cells(change)):
        dark = abs(values[row, column]) > 0.6 * limit
        axes.text(column, row, cell, ha="center", va="center", size=SMALL, color="white" if dark else INK)
    axes.set(yticks=[], xlabel=HEAT)
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("bottom")
    axes.set_xticks(range(len(names)), names, rotation=90, size=SMALL)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _cells(change: pd.DataFrame) -> np.ndarray:
    """Whole points, which is what a heat map can be read to; nothing where there is no value."""
    texts = [["" if np.isnan(value) else f"{round(value):+d}" for value in row] for row in change.to_numpy(float)]
    return np.array([[text if text != "+0" else "0" for text in row] for row in texts])


def _columns(table: pd.DataFrame) -> list[Column]:
    def cells(values: pd.Series, form: str) -> list[str]:
        return ["" if pd.isna(value) else form.format(value) for value in values]

    columns = [
        Column("corrupted\n(%)", [cells(table["top1"], "{:.2f}")]),
        Column("as they\nare (%)", [cells(table["clean_top1"], "{:.2f}")], (GREY,)),
        Column("Δ", [cells(table["delta"], "{:+.2f}")]),
        Column("p\n(Holm)", [cells(table["delta_p_holm"], "{:.3f}")]),
    ]
    return [column for column in columns if any(column.lines[0])]


def _note(table: pd.DataFrame, words: str, first: str, cut: bool) -> str:
    counts = table.loc[table["top1"].notna(), "n"]
    seeds = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts.max())
    one = counts.max() == 1
    tested = int(table["delta_p_holm"].notna().sum())
    notes = [
        f"Corrupted: {words}; mean over these, not normalised (no mCE).",
        " One seed each: no interval, gaps may be noise." if one else f" Means over {seeds} seeds, 95 % t-intervals.",
        f" Outside noise: p < {ALPHA:g}, corrected for {tested} comparisons (Holm)." if tested else "",
        " An interval that ends at an edge goes on." if cut else "",
        f" Heat map: mean accuracy less that of {first}, in whole points.",
    ]
    return "".join(notes)
