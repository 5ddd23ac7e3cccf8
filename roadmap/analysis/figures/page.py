"""A picture's page, laid out in inches: texts around the axes, and rows of labels and numbers beside them.

Everything but the axes' inside is as wide as its text, so that no two texts meet.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from roadmap.analysis.figures.style import BAND, GREY, INK, SMALL, TEXT, TITLE, width, wrapped

LINE = 1.35 / 72  # inches a line of text takes for each point of its size
MARGIN, GAP, AXIS, LEGEND, WIDTH = 0.15, 0.16, 0.52, 0.26, 7.0  # inches; the last at least
HANDLE, PAD, SPACE = 2.0, 0.8, 2.0  # of the legend, in sizes of its font: its marks, the gap after them and between


@dataclass(frozen=True)
class Texts:
    """What is written around the axes."""

    title: str
    subtitle: str
    note: str


@dataclass(frozen=True)
class Column:
    """Numbers beside the axes, right-aligned: ``lines`` has the cells of all rows for each line of a row."""

    header: str
    lines: Sequence[Sequence[str]]
    colors: Sequence[str] = (INK, GREY)

    @property
    def width(self) -> float:
        """Inches, with the gap before it."""
        cells = [cell for line in self.lines for cell in line]
        return GAP + max(width(cells, TEXT), width(self.header.split("\n"), SMALL))


@dataclass(frozen=True)
class Page:
    """Inches from the lower left corner: the page's size, the axes; and the texts around, wrapped to it."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    top: float
    title: list[str]
    subtitle: list[str]
    note: list[str]
    legend_columns: int

    @property
    def axes(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height as shares of the page."""
        wide, high = (self.right - self.left) / self.width, (self.top - self.bottom) / self.height
        return self.left / self.width, self.bottom / self.height, wide, high


def laid_out(
    inside: tuple[float, float], sides: tuple[float, float], texts: Texts, legend: Sequence[str], above: float = 0.0
) -> Page:
    """The page around axes of ``inside`` inches, width and height, with so many inches at its left and right.

    ``legend`` are the labels that will stand below the axes, ``above`` what is kept free over them.
    """
    wide = max(sum(sides) + inside[0], WIDTH)
    writable = wide - 2 * MARGIN
    titles, subtitles = wrapped(texts.title, TITLE, writable, "bold"), wrapped(texts.subtitle, TEXT, writable)
    note = [line for part in texts.note.split("\n") for line in wrapped(part, SMALL, writable)]
    columns = _legend_columns(legend, writable)
    rows = math.ceil(len(legend) / columns) if columns else 0
    lines = LEGEND + LINE * SMALL * 1.1 * (rows - 1) if rows else 0
    bottom = MARGIN + LINE * SMALL * len(note) + lines + AXIS
    top = bottom + inside[1]
    height = top + above + LINE * (TEXT * len(subtitles) + TITLE * len(titles)) + GAP + MARGIN
    return Page(wide, height, sides[0], wide - sides[1], bottom, top, titles, subtitles, note, columns)


def _legend_columns(labels: Sequence[str], inches: float) -> int:
    """The most columns in which a legend of ``labels`` is no wider than so many inches."""
    for columns in range(len(labels), 1, -1):
        lines, longer = divmod(len(labels), columns)  # matplotlib's first columns are a line longer
        ends = list(itertools.accumulate(lines + (column < longer) for column in range(columns)))
        widths = [width(labels[start:end], SMALL) for start, end in itertools.pairwise([0, *ends])]
        if sum(widths) + columns * (HANDLE + PAD + SPACE) * SMALL / 72 <= inches:
            return columns
    return min(len(labels), 1)


def write_around(figure: Figure, page: Page) -> None:
    """Title and subtitle above; legend, of what there is, and note below."""
    inches: dict[str, Any] = {"transform": figure.dpi_scale_trans}
    y = page.height - MARGIN
    figure.text(MARGIN, y, "\n".join(page.title), size=TITLE, weight="bold", color=INK, va="top", **inches)
    y -= LINE * TITLE * len(page.title)
    figure.text(MARGIN, y, "\n".join(page.subtitle), color=GREY, va="top", **inches)
    figure.text(MARGIN, MARGIN, "\n".join(page.note), size=SMALL, color=GREY, va="bottom", **inches)
    kinds = legend_entries(figure)
    if kinds:
        figure.legend(
            handles=list(kinds.values()),
            labels=list(kinds),
            loc="upper left",
            ncols=page.legend_columns,
            handlelength=HANDLE,
            handletextpad=PAD,
            columnspacing=SPACE,
            bbox_to_anchor=(MARGIN, page.bottom - AXIS),
            bbox_transform=figure.dpi_scale_trans,
            handler_map={tuple: HandlerTuple(None, pad=0)},
        )


def legend_entries(figure: Figure) -> dict[str, tuple[Any, ...]]:
    """Label -> what is drawn under it in the first axes that have it, bars before marks and lines.

    Equal labels in one axes make one entry.
    """
    kinds: dict[str, tuple[Any, ...]] = {}
    for axes in figure.axes:
        ours: dict[str, tuple[Any, ...]] = {}
        for handle, label in sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=_legend_place):
            ours[label] = (*ours.get(label, ()), handle)
        kinds |= {label: handles for label, handles in ours.items() if label not in kinds}
    return kinds


def _legend_place(entry: tuple[Any, str]) -> tuple[bool, bool, bool]:
    handle = entry[0]
    hatched = isinstance(handle, BarContainer) and bool(handle.patches[0].get_hatch())
    return isinstance(handle, Line2D), isinstance(handle, ErrorbarContainer), hatched


def row_sides(table: pd.DataFrame, columns: Sequence[Column]) -> tuple[float, float]:
    """Inches that sections and labels take at the left of the axes, and the columns at their right."""
    names = width(table["section"], SMALL, "bold")
    left = MARGIN + (names + GAP if names else 0) + width(table["label"], TEXT) + GAP / 2
    return left, sum(column.width for column in columns) + MARGIN


def header_space() -> float:
    """Inches that the columns' headers take above the axes."""
    return LINE * 2 * SMALL + GAP / 2


def write_rows(
    figure: Figure, page: Page, table: pd.DataFrame, columns: Sequence[Column], lanes: Sequence[float] = (0.0,)
) -> None:
    """Sections with their bands, labels and numbers; ``lanes`` is where a row's lines stand, in rows below its middle.

    ``table`` has ``label``, ``section`` and ``section_number``, which counts the runs of equal sections.
    """
    row_height = (page.top - page.bottom) / len(table)

    def y(row: float) -> float:
        return page.top - (row + 0.5) * row_height

    inches: dict[str, Any] = {"transform": figure.dpi_scale_trans}
    middle: dict[str, Any] = {"va": "center_baseline", **inches}
    for number, (_, rows) in enumerate(table.groupby("section_number")):
        low, high = y(rows.index[-1] + 0.5), y(rows.index[0] - 0.5)
        color = (BAND, "white")[number % 2]
        band = Rectangle((MARGIN / 2, low), page.width - MARGIN, high - low, facecolor=color, zorder=-1, **inches)
        figure.add_artist(band)
        name = rows["section"].iloc[0]
        figure.text(MARGIN, (low + high) / 2, name, size=SMALL, weight="bold", color=GREY, **middle)
    for row, label in enumerate(table["label"]):
        figure.text(page.left - GAP / 2, y(row), label, ha="right", color=INK, **middle)
    x = page.right
    for column in columns:
        x += column.width
        above: dict[str, Any] = {"va": "bottom", "size": SMALL, **inches}
        figure.text(x, page.top + GAP / 3, column.header, ha="right", color=column.colors[0], **above)
        for lane, color, line in zip(lanes, column.colors, column.lines, strict=False):
            for row, cell in enumerate(line):
                figure.text(x, y(row + lane), cell, ha="right", color=color, **middle)
