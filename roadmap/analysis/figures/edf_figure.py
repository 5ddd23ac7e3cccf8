"""The picture of error EDFs: a line a design space with its bootstrap band, and its median."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roadmap.analysis.edf import band, shares, summary, weights
from roadmap.analysis.figures.charts import plain_ticks, plotted_page
from roadmap.analysis.figures.page import Texts, legend_entries, write_around
from roadmap.analysis.figures.style import BLUE, GREEN, GREY, GRID, ORANGE, PURPLE, VERMILLION, save, styled
from roadmap.analysis.populations import MOST, Population
from roadmap.analysis.text.edf_text import note
from roadmap.errors import RequestError

SIZE = 6.0, 3.6  # inches of the axes
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, GREY)
DASHES: Sequence[Any] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))  # of as many
ERROR = "top-1 error after the last epoch (%)"
LANE = 3.0  # between the medians of two spaces, in percent of designs
LONG_TAIL = 30  # an axis whose ends are so many times apart is logarithmic


def draw_edf(populations: Sequence[Population], weighed: str | None, conditions: str, file: Path) -> None:
    """Draw the EDFs of populations, normalised by the cost ``weighed``, into ``file``; ``conditions`` says of what.

    Raises RequestError for more populations than can be told apart.
    """
    if len(populations) > MOST:
        names = ", ".join(each.name for each in populations[:3])
        raise RequestError(
            f"--kind edf tells {MOST} spaces apart, and these are {len(populations)} ({names}, …); choose by --where"
        )
    table = summary(populations)
    title = f"Error of {len(populations)} design spaces" if len(populations) > 1 else "Error of a design space"
    texts = Texts(title, conditions, note(populations, table, weighed))
    save(lambda: edf_figure(populations, table, texts), file)


def edf_figure(populations: Sequence[Population], table: pd.DataFrame, texts: Texts) -> Figure:
    """A line a population; ``table`` is the ``summary`` of them."""
    with styled():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        errors = np.concatenate([each.errors for each in populations])
        low, high = errors.min(), errors.max()
        room = 0.05 * ((high - low) or 1.0)
        if low > 0 and high / low > LONG_TAIL:
            axes.set_xscale("log")
            axes.set_xlim(low / 1.1, high * 1.1)
        else:
            axes.set_xlim(max(low - room, 0 if low >= 0 else low), high + room)
        lanes = 50 + LANE * (np.arange(len(populations))[::-1] - (len(populations) - 1) / 2)
        opacity = 0.15 if len(populations) < 4 else 0.06
        rows = table.to_dict("records")
        for each, row, lane, color, dashes in zip(populations, rows, lanes, COLORS, DASHES, strict=False):
            _draw_line(axes, each, color, dashes, opacity)
            _draw_median(axes, row, lane, color)
        axes.set(ylim=(0, 100), xlabel=ERROR, ylabel="designs with at most that error (%)")
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.grid(color=GRID)
        page = plotted_page(figure, SIZE, texts, list(legend_entries(figure)))
        write_around(figure, page)
    return figure


def _draw_line(axes: Axes, population: Population, color: str, dashes: Any, opacity: float) -> None:
    at = np.unique(population.errors)
    ends = np.concatenate([[axes.get_xlim()[0]], at, [axes.get_xlim()[1]]])
    lower, upper = (_stepped(values) for values in band(population, at))
    axes.fill_between(ends, lower, upper, step="post", color=color, alpha=opacity, linewidth=0, zorder=1)
    share = _stepped(shares(population, at, weights(population))[0])
    label = f"{population.name} ({len(population.designs)} designs, {seeds_words(population)})"
    axes.step(ends, share, where="post", color=color, linestyle=dashes, linewidth=1.4, label=label, zorder=3)


def _stepped(values: np.ndarray) -> np.ndarray:
    """Percent of each share, from nothing below the least error to what there is above the greatest."""
    return 100 * np.concatenate([[0], values, values[-1:]])


def _draw_median(axes: Axes, row: Mapping[Any, Any], lane: float, color: str) -> None:
    axes.hlines(lane, row["low"], row["high"], color=color, linewidth=1.6, zorder=3.5)
    axes.plot([row["median"]], [lane], "o", mfc="white", mec=color, markersize=4, zorder=4)


def seeds_words(population: Population) -> str:
    """How many seeds a design's error is the mean of."""
    low, high = int(population.designs["seeds"].min()), int(population.designs["seeds"].max())
    return "one seed each" if high == 1 else f"{low} seeds each" if low == high else f"{low} to {high} seeds each"
