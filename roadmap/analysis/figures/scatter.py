"""Each parameter in which designs differ against their error, and where the best of them lie; arXiv:2003.13678, 3.2."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roadmap.analysis.edf import TAILS
from roadmap.analysis.figures.charts import overhang, plain_ticks
from roadmap.analysis.figures.edf_figure import ERROR, LONG_TAIL, seeds_words
from roadmap.analysis.figures.page import GAP, LINE, MARGIN, Texts, laid_out, legend_entries, write_around
from roadmap.analysis.figures.style import BLUE, EDGE, GRID, INK, PALE, TEXT, VERMILLION, save, styled
from roadmap.analysis.populations import Population, varied
from roadmap.errors import RequestError

DRAWN = 0.25  # of the designs, as the paper draws them
UNITS = {"width": " (channels)", "kernel": " (pixels)"}
QUANTILES = TAILS[0], 0.5, TAILS[1]
COLUMNS, WIDE, HIGH = 3, 2.05, 1.6  # panels in a row; inches of one
TICKS = 2.2 * LINE * TEXT  # inches of the ticks below a panel, with the options' shares


@dataclass(frozen=True)
class Panel:
    """A parameter: its label, the value of each design, and its options where they are no numbers."""

    label: str
    values: np.ndarray
    options: tuple[str, ...] = ()


def draw_scatter(population: Population, conditions: str, file: Path) -> None:
    """Draw the designs' errors against their costs and each parameter that varies into ``file``.

    Raises RequestError where nothing varies.
    """
    panels = _panels(population.designs)
    designs = population.designs
    title = f"Error of {len(designs)} designs by what they differ in"
    note = (
        f"Points: {len(designs)} designs, {seeds_words(population)}. Of {_drawn(len(designs))} designs drawn at random "
        "from these, with replacement, the best lies in the bands in 95 % of draws, and on either side of the lines in "
        "half of them; of options, the share of draws is given. Parameters may vary together, above all in a band of "
        "cost: a panel does not tell what its parameter does by itself."
    )
    save(lambda: scatter_figure(panels, population.errors, Texts(title, conditions, note)), file)


def _drawn(designs: int) -> int:
    return max(1, round(DRAWN * designs))


def best_probabilities(errors: np.ndarray) -> np.ndarray:
    """How probable it is of each design that it is the best of a quarter of them, drawn with replacement.

    As the bootstrap of arXiv:2003.13678 with ever more draws; designs of one error share what they have together.
    """
    at_least = (errors[None] >= errors[:, None]).mean(axis=1)
    above = (errors[None] > errors[:, None]).mean(axis=1)
    drawn = _drawn(len(errors))
    return (at_least**drawn - above**drawn) / ((at_least - above) * len(errors))


def best_range(values: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """The value below which the best design lies in 2.5, 50 and 97.5 % of draws."""
    order = np.argsort(values)
    sums = np.cumsum(best_probabilities(errors)[order])
    low, middle, high = values[order][np.searchsorted(sums, QUANTILES).clip(max=len(sums) - 1)].tolist()
    return low, middle, high


def _panels(designs: pd.DataFrame) -> list[Panel]:
    found = varied(designs)
    if not found:
        raise RequestError("these designs differ in nothing; name runs of several designs")
    mega = designs["gmacs"].max() < 0.1
    panels = [
        Panel("MFLOPs (MACs)" if mega else "GFLOPs (MACs)", designs["gmacs"].to_numpy(float) * (1000 if mega else 1)),
        Panel("parameters (millions)", designs["params"].to_numpy(float)),
    ]
    for field, values in found.items():
        if all(isinstance(value, int) for value in values):
            panels.append(Panel(f"{field}{UNITS.get(field, '')}", np.array(values, float)))
        else:
            options = tuple(sorted(set(map(str, values))))
            panels.append(Panel(field, np.array([options.index(str(value)) for value in values], float), options))
    return panels


def scatter_figure(panels: list[Panel], errors: np.ndarray, texts: Texts) -> Figure:
    """A panel a parameter, all with the same axis of errors."""
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with styled():
        figure = Figure()
        drawn = [figure.add_axes((0, 0, 1, 1)) for _ in panels]
        for axes, panel in zip(drawn, panels, strict=True):
            _draw_panel(axes, panel, errors)
        ticks = overhang(figure, drawn[0], (WIDE, HIGH))[0]
        head = LINE * TEXT + 0.05
        step = WIDE + 2 * GAP, HIGH + head + TICKS + GAP
        inside = columns * step[0] - 2 * GAP, rows * step[1] - TICKS - GAP
        sides = MARGIN + LINE * TEXT + GAP / 2 + ticks, MARGIN + GAP
        page = laid_out(inside, sides, texts, list(legend_entries(figure)))
        figure.set_size_inches(page.width, page.height)
        for number, (axes, panel) in enumerate(zip(drawn, panels, strict=True)):
            row, column = divmod(number, columns)
            x, y = page.left + column * step[0], page.top - row * step[1] - head - HIGH
            axes.set_position((x / page.width, y / page.height, WIDE / page.width, HIGH / page.height))
            axes.tick_params(labelleft=column == 0)
            figure.text(x, y + HIGH + 0.05, panel.label, color=INK, va="bottom", transform=figure.dpi_scale_trans)
        middle: dict[str, Any] = {"transform": figure.dpi_scale_trans, "ha": "center", "va": "center"}
        figure.text(MARGIN + LINE * TEXT / 2, (page.bottom + page.top) / 2, ERROR, rotation=90, **middle)
        write_around(figure, page)
    return figure


def _draw_panel(axes: Axes, panel: Panel, errors: np.ndarray) -> None:
    x = panel.values
    if panel.options:
        probable = best_probabilities(errors)
        parts = [f"{option}\n{probable[x == place].sum():.0%}" for place, option in enumerate(panel.options)]
        axes.set_xticks(range(len(parts)), parts)
        axes.set_xlim(-0.6, len(parts) - 0.4)
    else:
        low, middle, high = best_range(x, errors)
        axes.axvspan(low, high, color=PALE, linewidth=0, zorder=0.5, label="the best, in 95 % of draws")
        axes.axvline(middle, color=VERMILLION, linewidth=1.2, zorder=1, label="half of the best on either side")
        plain_ticks(axes.xaxis)
        whole = bool(np.all(x == np.round(x)))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10], integer=whole, min_n_ticks=1))
        room = 0.08 * ((x.max() - x.min()) or 1.0)
        axes.set_xlim(x.min() - room, x.max() + room)
    form: dict[str, Any] = {"linestyle": "none", "markersize": 3.5, "zorder": 3, "label": "a design"}
    axes.plot(x, errors, "o", mfc=BLUE, mec=EDGE, mew=0.4, alpha=0.7, **form)
    if errors.min() > 0 and errors.max() / errors.min() > LONG_TAIL:
        axes.set_yscale("log")
    plain_ticks(axes.yaxis)
    axes.grid(color=GRID)
