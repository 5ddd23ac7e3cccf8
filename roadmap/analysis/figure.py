"""The roadmap figure, after Figure 2 of arXiv:2201.03545: one bar a step from top to bottom, its numbers beside it.

Everything but the bars' axes is laid out in inches, in columns as wide as their text, so that no two texts meet.
"""

import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from roadmap.analysis.table import mac_factor, mac_header
from roadmap.errors import RequestError

METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DPI = 200
TITLE, TEXT, SMALL = 12.0, 8.5, 7.5  # points
STYLE = {
    "figure.dpi": DPI,  # what is measured is what a png shows
    "savefig.dpi": DPI,
    "font.size": TEXT,
    "text.parse_math": False,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "roadmap",
    "pdf.fonttype": 42,
}
LINE = 1.35 / 72  # inches a line of text takes for each point of its size
MARGIN, GAP, ROW, AXIS, LEGEND, BARS, WIDTH = 0.15, 0.16, 0.25, 0.52, 0.26, 3.5, 7.0  # inches; the last two at least
BAR = 0.66  # rows

# Okabe and Ito's blues, told apart by lightness; what was not adopted differs by its hatching too.
SHADES = "#0072B2", "#56B4E9"
LEFT: dict[str, Any] = {"color": "#E3E3E3", "edgecolor": "#6E6E6E", "hatch": "/////", "linewidth": 0.7}
WHISKER: dict[str, Any] = {"fmt": "none", "ecolor": "black", "elinewidth": 1.0, "capsize": 2.2}
PAPER: dict[str, Any] = {"fmt": "D", "ms": 4.6, "mfc": "#F0E442", "mec": "black", "clip_on": False}
INK, GREY, BAND = "#1A1A1A", "#595959", "#F2F2F2"


def draw(table: pd.DataFrame, file: Path, *, title: str, subtitle: str) -> None:
    """Draw the table of ``roadmap_figure`` into ``file``, a png, svg or pdf; the same table gives the same bytes."""
    kind = file.suffix.removeprefix(".").lower()
    if kind not in METADATA:
        raise RequestError(f"cannot draw a figure as '{file.suffix}'; choose .png, .svg or .pdf")
    figure = roadmap_figure(table, title, subtitle)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _style():
            figure.savefig(file, format=kind, metadata=METADATA[kind])
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error


def roadmap_figure(table: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """One bar a row of ``table``, in its order: step, label, section, adopted, ``n`` seeds, ``top1`` and ``top1_std``
    in percent, ``gmacs`` ×10⁹, and ``paper_top1``, ``paper_top1_std``, ``paper_gflops``, each NaN where there is none.
    """
    if table.empty or table["top1"].isna().all():
        raise RequestError("no figure to draw: no step has an accuracy yet")
    words = {name: table[name].astype(str).str.split().str.join(" ") for name in ("label", "section")}
    spread = table["top1_std"].where((table["n"] > 1) & table["top1"].notna())
    table = table.assign(**words, top1_std=spread, adopted=table["adopted"].astype(bool)).reset_index(drop=True)
    table["section_number"] = (table["section"] != table["section"].shift()).cumsum() - 1
    with _style():
        columns = _columns(table)
        page = _page(table, columns, title, subtitle)
        figure = Figure(figsize=(page.width, page.height))
        _draw_bars(figure.add_axes(page.axes), table)
        _write_rows(figure, page, table, columns)
        _write_around(figure, page)
    return figure


def _style() -> AbstractContextManager[None]:
    """Ours alone, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(STYLE, after_reset=True)


@dataclass(frozen=True)
class Column:
    """Numbers beside the bars, right-aligned."""

    header: str
    cells: list[str]
    color: str = INK

    @property
    def width(self) -> float:
        """Inches, with the gap before it."""
        return GAP + max(_width(self.cells, TEXT), _width(self.header.split("\n"), SMALL))


@dataclass(frozen=True)
class Page:
    """Inches from the lower left corner: the page's size, the bars' axes; and the texts around, wrapped to it."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    top: float
    title: list[str]
    subtitle: list[str]
    note: list[str]

    @property
    def axes(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height as shares of the page."""
        wide, high = (self.right - self.left) / self.width, (self.top - self.bottom) / self.height
        return self.left / self.width, self.bottom / self.height, wide, high

    def y(self, row: float) -> float:
        """The middle of a row."""
        return self.top - (row + 0.5) * ROW


def _columns(table: pd.DataFrame) -> list[Column]:
    """The numbers beside the bars; a column that would be empty is left out."""
    factor, unit = mac_factor(table), mac_header(table)[0].replace(" ", "\n")
    seeds = table["n"].where(table["top1"].notna())
    columns = [
        Column("top-1\n(%)", _cells(table["top1"], missing="–")),
        Column("± std", _cells(table["top1_std"], "± {:.2f}")),
        Column("seeds", _cells(seeds, "{:.0f}") if seeds.nunique() > 1 else []),
        Column(unit, _cells(table["gmacs"] * factor)),
        Column("paper\ntop-1", _cells(table["paper_top1"]), GREY),
        Column("paper\n± std", _cells(table["paper_top1_std"], "± {:.2f}"), GREY),
        Column(f"paper\n{unit.split()[0]}", _cells(table["paper_gflops"] * factor), GREY),
    ]
    return [column for column in columns if any(column.cells)]


def _cells(values: pd.Series, form: str = "{:.2f}", missing: str = "") -> list[str]:
    return [missing if pd.isna(value) else form.format(value) for value in values]


def _page(table: pd.DataFrame, columns: list[Column], title: str, subtitle: str) -> Page:
    names = _width(table["section"], SMALL, "bold")
    left = MARGIN + (names + GAP if names else 0) + _width(table["label"], TEXT) + GAP / 2
    beside = sum(column.width for column in columns) + MARGIN
    width = max(left + BARS + beside, WIDTH)
    inside = width - 2 * MARGIN
    titles, subtitles = _wrapped(title, TITLE, inside, "bold"), _wrapped(subtitle, TEXT, inside)
    note = _wrapped(_note(table), SMALL, inside)
    bottom = MARGIN + LINE * SMALL * len(note) + LEGEND + AXIS
    top = bottom + ROW * len(table)
    height = top + LINE * (2 * SMALL + TEXT * len(subtitles) + TITLE * len(titles)) + 1.5 * GAP + MARGIN
    return Page(width, height, left, width - beside, bottom, top, titles, subtitles, note)


def _width(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Inches that the longest of ``texts`` takes."""
    renderer, font = RendererAgg(1, 1, DPI), FontProperties(size=size, weight=weight)
    return max((renderer.get_text_width_height_descent(text, font, False)[0] for text in texts), default=0) / DPI


def _wrapped(text: str, size: float, inches: float, weight: str = "normal") -> list[str]:
    """``text`` in lines of at most so many inches."""
    for letters in range(max(len(text), 1), 0, -1):
        lines = textwrap.wrap(text, letters, break_on_hyphens=False)
        if _width(lines, size, weight) <= inches:
            break
    return lines


def _note(table: pd.DataFrame) -> str:
    """What the reader has to know of this table and can't see."""
    seeds = sorted(table["n"][table["top1"].notna()].unique())
    many = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else seeds[0]
    notes = [
        f"Bars: mean over {many} seeds" if seeds[-1] > 1 else "Bars: one seed, no error bars",
        ", whiskers: standard deviation" if table["top1_std"].notna().any() else "",
        "; the axis does not start at 0." if _limits(table)[0] > 0 else ".",
        "" if table["adopted"].all() else " Hatched: tried, not adopted.",
        " –: not run yet." if table["top1"].isna().any() else "",
        " FLOPs: multiply-accumulates (MACs) of one image.",
    ]
    return "".join(notes)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """The axis in percent: cropped to what is drawn, with the shortest bar still to be seen, and from 0 at least."""
    spread = table["top1_std"].fillna(0)
    ends = pd.concat([table["top1"] - spread, table["top1"] + spread, table["paper_top1"]])
    span = max(ends.max() - ends.min(), 1.0)
    return max(ends.max() - 1.15 * span, 0.0), max(ends.max() + 0.04 * span, 1.0)


def _draw_bars(axes: Axes, table: pd.DataFrame) -> None:
    """Bars from 0, cropped by the axis; whiskers of one standard deviation; the paper's values as diamonds."""
    left, right = _limits(table)
    spaced = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(left, right)
    ticks = [tick for tick in spaced if left <= tick <= min(right, 100)]  # a whisker may pass 100, an accuracy cannot
    axes.set(xlim=(left, right), ylim=(len(table) - 0.5, -0.5), facecolor="none", yticks=[])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("top-1 accuracy (%)")
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#D0D0D0", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    run = table[table["top1"].notna()]
    for shade, color in enumerate(SHADES):
        bars = run[run["adopted"] & (run["section_number"] % 2 == shade)]
        if len(bars):
            axes.barh(bars.index, bars["top1"], height=BAR, color=color, label="adopted")
    bars = run[~run["adopted"]]
    if len(bars):
        axes.barh(bars.index, bars["top1"], height=BAR, label="tried, not adopted", **LEFT)
    bars = run[run["top1_std"].notna()]
    if len(bars):
        axes.errorbar(bars["top1"], bars.index, xerr=bars["top1_std"], label="standard deviation", **WHISKER)
    if table["paper_top1"].notna().any():
        # on the bar's lower edge, clear of the whisker
        axes.errorbar(table["paper_top1"], table.index + BAR / 2, label="the paper's value", **PAPER)


def _write_rows(figure: Figure, page: Page, table: pd.DataFrame, columns: list[Column]) -> None:
    """Sections with their bands, labels and numbers."""
    inches: dict[str, Any] = {"transform": figure.dpi_scale_trans}
    middle: dict[str, Any] = {"va": "center_baseline", **inches}
    for number, (_, rows) in enumerate(table.groupby("section_number")):
        low, high = page.y(rows.index[-1] + 0.5), page.y(rows.index[0] - 0.5)
        color = (BAND, "white")[number % 2]
        band = Rectangle((MARGIN / 2, low), page.width - MARGIN, high - low, facecolor=color, zorder=-1, **inches)
        figure.add_artist(band)
        name = rows["section"].iloc[0]
        figure.text(MARGIN, (low + high) / 2, name, size=SMALL, weight="bold", color=GREY, **middle)
    for row, label in enumerate(table["label"]):
        figure.text(page.left - GAP / 2, page.y(row), label, ha="right", color=INK, **middle)
    x = page.right
    for column in columns:
        x += column.width
        above: dict[str, Any] = {"va": "bottom", "size": SMALL, **inches}
        figure.text(x, page.top + GAP / 3, column.header, ha="right", color=column.color, **above)
        for row, cell in enumerate(column.cells):
            figure.text(x, page.y(row), cell, ha="right", color=column.color, **middle)


def _write_around(figure: Figure, page: Page) -> None:
    """Title and subtitle above; legend, of what there is, and note below."""
    inches: dict[str, Any] = {"transform": figure.dpi_scale_trans}
    y = page.height - MARGIN
    figure.text(MARGIN, y, "\n".join(page.title), size=TITLE, weight="bold", color=INK, va="top", **inches)
    y -= LINE * TITLE * len(page.title)
    figure.text(MARGIN, y, "\n".join(page.subtitle), color=GREY, va="top", **inches)
    figure.text(MARGIN, MARGIN, "\n".join(page.note), size=SMALL, color=GREY, va="bottom", **inches)
    kinds: dict[str, tuple[Any, ...]] = {}
    for handle, label in zip(*figure.axes[0].get_legend_handles_labels(), strict=True):
        kinds[label] = (*kinds.get(label, ()), handle)  # both shades of adopted under one name
    form: dict[str, Any] = {
        "frameon": False,
        "fontsize": SMALL,
        "borderpad": 0,
        "borderaxespad": 0,
        "ncols": len(kinds),
    }
    form |= {"bbox_to_anchor": (MARGIN, page.bottom - AXIS), "bbox_transform": figure.dpi_scale_trans}
    form |= {"handles": list(kinds.values()), "labels": list(kinds), "handler_map": {tuple: HandlerTuple(None, pad=0)}}
    figure.legend(loc="upper left", **form)
