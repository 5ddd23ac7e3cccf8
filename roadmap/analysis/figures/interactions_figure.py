"""How changes depend on each other, two by two: accuracy below the diagonal, MACs above it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from roadmap.analysis import shapley
from roadmap.analysis.attribution import Attribution
from roadmap.analysis.figures.charts import overhang
from roadmap.analysis.figures.page import GAP, LINE, MARGIN, Texts, laid_out, write_around
from roadmap.analysis.figures.style import BLUE, GRID, INK, SMALL, TEXT, VERMILLION, save, styled
from roadmap.analysis.interactions import Interactions
from roadmap.analysis.statistics import ALPHA
from roadmap.analysis.text.attribution_text import interactions_of, mac_unit

CELL, HIGH = 0.58, 0.34  # inches
BOTH_WAYS = LinearSegmentedColormap.from_list("both ways", [VERMILLION, "white", BLUE])
Array = np.ndarray


def draw_interactions(found: Attribution, file: Path, *, title: str, subtitle: str) -> None:
    """Draw ``interactions_figure`` into ``file``, a png, svg or pdf."""
    save(lambda: interactions_figure(found, title, subtitle), file)


def interactions_figure(found: Attribution, title: str, subtitle: str) -> Figure:
    """A cell each two changes: above the diagonal the Shapley interaction of their MACs, exact; below it that of their
    accuracy by least squares, in percentage points, where runs tell it.
    """
    factor, unit = mac_unit(found)
    pairs = interactions_of(found)
    labels = found.table["label"].astype(str).str.split().str.join(" ").tolist()
    above = np.triu(shapley.interactions(found.sets.gmacs) * factor, 1)
    below, told = _measured(pairs, found.sets.names)
    with styled():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        _draw_cells(axes, above, np.zeros_like(told), upper=True)
        _draw_cells(axes, below, told, upper=False)
        _draw_axis(axes, labels)
        below_words = "below the diagonal: top-1 (percentage points); " if np.isfinite(below).any() else ""
        axes.set_xlabel(f"{below_words}above the diagonal: {unit}")
        size = CELL * len(labels), HIGH * len(labels)
        left, right = overhang(figure, axes, size)
        texts = Texts(title, subtitle, _note(pairs, unit))
        page = laid_out(size, (MARGIN + left, MARGIN + right), texts, [], LINE * TEXT + GAP)
        figure.set_size_inches(page.width, page.height)
        axes.set_position(page.axes)
        write_around(figure, page)
    return figure


def _measured(pairs: Interactions | None, names: Sequence[str]) -> tuple[Array, Array]:
    """The estimates below the diagonal, (n, n), NaN elsewhere, and which are outside noise."""
    values, told = np.full((len(names),) * 2, np.nan), np.zeros((len(names),) * 2, bool)
    if pairs is not None:
        for row in pairs.pairs.to_dict("records"):
            place = names.index(row["second"]), names.index(row["first"])
            values[place], told[place] = row["estimate"], row["p_holm"] < ALPHA
    return values, told


def _draw_cells(axes: Axes, values: Array, told: Array, *, upper: bool) -> None:
    """One triangle with its numbers; colours reach to its own largest value."""
    rows, columns = np.triu_indices(len(values), 1) if upper else np.tril_indices(len(values), -1)
    shown = np.full_like(values, np.nan)
    shown[rows, columns] = values[rows, columns]
    most = np.nanmax(np.abs(shown), initial=1e-12)
    axes.imshow(shown, cmap=BOTH_WAYS, vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        value = shown[row, column]
        text = "–" if np.isnan(value) else f"{value:+.2f}" if abs(value) >= 0.005 else "0"
        if upper or np.isfinite(shown).any():
            weight = "bold" if told[row, column] else "normal"
            axes.text(column, row, text, ha="center", va="center", size=SMALL, weight=weight, color=INK)


def _draw_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Changes are numbered: names down the side, numbers along the top."""
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    axes.set_yticks(range(len(labels)), [f"{label}  {number}" for label, number in zip(labels, numbers, strict=True)])
    axes.set_xticks(range(len(labels)), numbers)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    edges = np.arange(len(labels) + 1) - 0.5
    axes.hlines(edges, edges[0], edges[-1], color=GRID, linewidth=0.5)
    axes.vlines(edges, edges[0], edges[-1], color=GRID, linewidth=0.5)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(edges[-1], edges[0]))
    axes.spines[:].set_visible(False)


def _note(pairs: Interactions | None, unit: str) -> str:
    note = "What two changes add beyond each alone; 0: less than 0.005."
    note += f" {unit.split()[0]}: Shapley interaction index, exact."
    missing = "–: one change needs the other"
    if pairs is not None and len(pairs.pairs):
        note += (
            f" Top-1: least squares over {pairs.sets} designs with {pairs.terms} terms; bold: p < {ALPHA:g}, corrected "
            f"for {len(pairs.pairs)} pairs (Holm)."
        )
        missing += ", or not all four combinations were run"
    return f"{note} {missing}."
