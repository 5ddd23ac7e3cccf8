"""The roadmap figure, after Figure 2 of arXiv:2201.03545: a bar a step from top to bottom, its numbers beside it.

With two regimes each row has two bars: the smaller regime's in front, the larger one's grey and behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
from roadmap.analysis.figures.style import (
    BACKGROUND,
    BLUE,
    EDGE,
    GREY,
    GRID,
    PALE,
    PALE_GREY,
    SKY,
    VERMILLION,
    YELLOW,
    save,
    styled,
)
from roadmap.analysis.table import mac_factor, mac_header
from roadmap.errors import RequestError

BARS = 3.5  # inches, at least
PAPER: dict[str, Any] = {"fmt": "D", "ms": 4.6, "mec": "black", "clip_on": False}


@dataclass(frozen=True)
class Lane:
    """How one regime's bars are drawn; places in rows below the middle of a row."""

    line: float  # of its numbers
    bar: float
    height: float
    whisker: float
    diamond: float
    shades: tuple[str, str]  # told apart by lightness; sections take turns
    hatched: dict[str, Any]  # what was not adopted
    reference: dict[str, Any]  # the line of the paper's Transformer
    paper: str  # the diamonds' colour
    rank: float  # drawn over lower ones

    @property
    def whiskers(self) -> dict[str, Any]:
        return {"fmt": "none", "ecolor": "black", "elinewidth": 1.0, "capsize": 2.2, "zorder": 3}


def _hatched(color: str, edge: str) -> dict[str, Any]:
    return {"color": color, "edgecolor": edge, "hatch": "/////", "linewidth": 0.7}


SWIN: dict[str, Any] = {"color": VERMILLION, "linestyle": "--", "linewidth": 1.0, "zorder": 2.5}
SWIN_BEHIND = SWIN | {"color": EDGE, "linestyle": ":", "linewidth": 1.3}
# the diamonds sit on the bars' edges, clear of the whiskers
ALONE = Lane(0, 0, 0.66, 0, 0.33, (BLUE, SKY), _hatched(PALE_GREY, EDGE), SWIN, YELLOW, 1)
FRONT = Lane(-0.23, -0.15, 0.52, -0.15, -0.39, (BLUE, SKY), _hatched(PALE, BLUE), SWIN, YELLOW, 1)
BEHIND = Lane(
    0.24, 0.15, 0.52, 0.26, 0.41, (BACKGROUND, BACKGROUND), _hatched(PALE_GREY, EDGE), SWIN_BEHIND, "white", 0.9
)
ROW, TALL_ROW = 0.25, 0.36  # inches


def draw(
    table: pd.DataFrame,
    file: Path,
    *,
    title: str,
    subtitle: str,
    behind: pd.DataFrame | None = None,
    names: Sequence[str] = (),
) -> None:
    """Draw the figure of ``roadmap_figure`` into ``file``, a png, svg or pdf; equal tables give equal bytes."""
    save(lambda: roadmap_figure(table, title, subtitle, behind, names), file)


def roadmap_figure(
    table: pd.DataFrame, title: str, subtitle: str, behind: pd.DataFrame | None = None, names: Sequence[str] = ()
) -> Figure:
    """One bar a row of ``table``, in its order: step, label, section, adopted, ``n`` seeds, ``top1`` and ``top1_std``
    in percent, ``gmacs`` ×10⁹, and ``paper_top1``, ``paper_top1_std``, ``paper_gflops``, each NaN where there is none.

    Optional columns: ``source`` is not empty where the row's own numbers are published ones, and says which;
    ``reference`` is true of a network that is no step, drawn with a line from top to bottom. ``behind`` is a second
    regime's table of the same rows, drawn grey; ``names`` are the two regimes'. Raises RequestError where no row has
    an accuracy.
    """
    tables = [_prepared(one) for one in ([table] if behind is None else [table, behind])]
    if all(one.loc[~one["reference"], "top1"].isna().all() for one in tables):
        raise RequestError("no figure to draw: no step has an accuracy yet")
    lanes = [ALONE] if behind is None else [FRONT, BEHIND]
    with styled():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        _draw_axis(axes, tables)
        for one, lane, label in zip(tables, lanes, _adopted(tables, names), strict=True):
            _draw_bars(axes, one, lane, label)
        columns = _columns(tables)
        inside = BARS, (ROW if behind is None else TALL_ROW) * len(table)
        texts = Texts(title, subtitle, _note(tables, names))
        legend = list(legend_entries(figure))
        page = laid_out(inside, row_sides(tables[0], columns), texts, legend, header_space())
        figure.set_size_inches(page.width, page.height)
        axes.set_position(page.axes)
        write_rows(figure, page, tables[0], columns, [lane.line for lane in lanes])
        write_around(figure, page)
    return figure


def _prepared(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its optional columns, words on one line, and deviations of several seeds only."""
    if table.empty:
        raise RequestError("no figure to draw: no step has an accuracy yet")
    words = {name: table[name].astype(str).str.split().str.join(" ") for name in ("label", "section")}
    spread = table["top1_std"].where((table["n"] > 1) & table["top1"].notna())
    flags = {"source": table.get("source", ""), "reference": table.get("reference", False)}
    table = table.assign(**words, **flags, top1_std=spread, adopted=table["adopted"].astype(bool))
    table = table.reset_index(drop=True)
    table["section_number"] = (table["section"] != table["section"].shift()).cumsum() - 1
    # a reference that was not run is drawn from the paper
    table["drawn"] = table["top1"].where(~table["reference"] | table["top1"].notna(), table["paper_top1"])
    return table


def _columns(tables: Sequence[pd.DataFrame]) -> list[Column]:
    """The numbers beside the bars, a line a regime; a column that would be empty is left out."""
    together = pd.concat(tables)
    factor, unit = mac_factor(together), mac_header(together)[0].replace(" ", "\n")
    counted = [
        table["n"].where(table["top1"].notna() & ~table["reference"] & (table["source"] == "")) for table in tables
    ]
    differ = pd.concat(counted).nunique() > 1
    paper = GREY, GREY
    columns = [
        Column("top-1\n(%)", [_accuracies(table) for table in tables]),
        Column("± std", [_cells(table["top1_std"], "± {:.2f}") for table in tables]),
        Column("seeds", [_cells(seeds, "{:.0f}") if differ else [] for seeds in counted]),
        Column(unit, [_cells(table["gmacs"] * factor) for table in tables]),
        Column("paper\ntop-1", [_cells(table["paper_top1"]) for table in tables], paper),
        Column("paper\n± std", [_cells(table["paper_top1_std"], "± {:.2f}") for table in tables], paper),
        Column(f"paper\n{unit.split()[0]}", [_cells(table["paper_gflops"] * factor) for table in tables], paper),
    ]
    return [column for column in columns if any(cell for line in column.lines for cell in line)]


def _cells(values: pd.Series, form: str = "{:.2f}") -> list[str]:
    return ["" if pd.isna(value) else form.format(value) for value in values]


def _accuracies(table: pd.DataFrame) -> list[str]:
    cells = zip(_cells(table["top1"]), table["reference"], strict=True)
    return [cell or ("" if reference else "–") for cell, reference in cells]


def _note(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> str:
    """What the reader has to know of these tables and can't see."""
    steps = [table[~table["reference"]] for table in tables]
    places = ["Bars"] if len(tables) == 1 else [f"In front: {names[0]}", f"grey: {names[1]}"]
    separator = ": " if len(tables) == 1 else ", "
    published = [bool((table["source"] != "").any()) for table in steps]
    missing = [table["top1"].isna().any() for table in steps]
    why = {
        "not published" if given else "not run yet" for given, lacks in zip(published, missing, strict=True) if lacks
    }
    notes = [
        "; ".join(f"{place}{separator}{_means(table)}" for place, table in zip(places, steps, strict=True)),
        ", whiskers: standard deviation" if any(table["top1_std"].notna().any() for table in steps) else "",
        "; the axis does not start at 0." if _limits(tables)[0] > 0 else ".",
        "" if all(table["adopted"].all() for table in steps) else " Hatched: tried, not adopted.",
        f" –: {' or '.join(sorted(why))}." if why else "",
        " Swin: the paper's numbers." if any(table["reference"].any() for table in tables) else "",
        " FLOPs: multiply-accumulates (MACs) of one image",
        ", as printed." if all(published) else ".",
    ]
    return "".join(notes)


def _means(table: pd.DataFrame) -> str:
    run = table[table["top1"].notna()]
    if run.empty:
        return "not run yet"
    if (run["source"] != "").any():
        several = (
            " (mean over 3 seeds where ± is given, else one run)" if run["top1_std"].notna().any() else " (one run)"
        )
        return f"{run['source'].iloc[0]} as published{several}"
    low, high = run["n"].min(), run["n"].max()
    if high == 1:
        return "one seed, no error bars"
    return f"mean over {low} to {high} seeds" if low < high else f"mean over {high} seeds"


def _adopted(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> list[str]:
    """What the legend calls each regime's bars; which are published where the others are not."""
    if not names:
        return ["adopted"] * len(tables)
    sources = [table["source"].iloc[0] for table in tables]
    labels = [f"adopted: {name}" for name in names]
    return labels if all(sources) else [", ".join(filter(None, pair)) for pair in zip(labels, sources, strict=True)]


def _limits(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """The axis in percent: cropped to what is drawn, with the shortest bar still to be seen, and from 0 at least."""
    table = pd.concat(tables)
    spread = table["top1_std"].fillna(0)
    ends = pd.concat([table["drawn"] - spread, table["drawn"] + spread, table["paper_top1"]])
    span = max(ends.max() - ends.min(), 1.0)
    return max(ends.max() - 1.15 * span, 0.0), max(ends.max() + 0.04 * span, 1.0)


def _draw_axis(axes: Axes, tables: Sequence[pd.DataFrame]) -> None:
    left, right = _limits(tables)
    spaced = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(left, right)
    ticks = [tick for tick in spaced if left <= tick <= min(right, 100)]  # a whisker may pass 100, an accuracy cannot
    axes.set(xlim=(left, right), ylim=(len(tables[0]) - 0.5, -0.5), yticks=[])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("top-1 accuracy (%)")
    axes.grid(axis="x", color=GRID)


def _draw_bars(axes: Axes, table: pd.DataFrame, lane: Lane, adopted: str) -> None:
    """Bars from 0, cropped by the axis; whiskers of one standard deviation; the paper's values as diamonds."""
    run = table[table["top1"].notna() & ~table["reference"]]
    form: dict[str, Any] = {"height": lane.height, "zorder": lane.rank}
    for shade, color in enumerate(dict.fromkeys(lane.shades)):
        turn = run["section_number"] % len(set(lane.shades)) == shade
        bars = run[run["adopted"] & turn]
        if len(bars):
            axes.barh(bars.index + lane.bar, bars["top1"], color=color, label=adopted, **form)
    bars = run[~run["adopted"]]
    if len(bars):
        axes.barh(bars.index + lane.bar, bars["top1"], label="tried, not adopted", **form, **lane.hatched)
    bars = run[run["top1_std"].notna()]
    if len(bars):
        label = "_" if lane is BEHIND else "standard deviation"
        axes.errorbar(bars["top1"], bars.index + lane.whisker, xerr=bars["top1_std"], label=label, **lane.whiskers)
    _draw_reference(axes, table[table["reference"]], lane)
    published = table["paper_top1"].where(~table["reference"])
    if published.notna().any():
        y = table.index + lane.diamond
        axes.errorbar(published, y, mfc=lane.paper, zorder=3, label="the paper's value", **PAPER)


def _draw_reference(axes: Axes, rows: pd.DataFrame, lane: Lane) -> None:
    for row, reference in zip(rows.index, rows.to_dict("records"), strict=True):
        color = lane.reference["color"]
        axes.barh(row + lane.bar, reference["drawn"], height=lane.height, color=color, zorder=lane.rank)
        axes.axvline(reference["drawn"], label=f"{reference['name']} (the paper's)", **lane.reference)
