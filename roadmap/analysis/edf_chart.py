"""The picture of error EDFs: a line a design space with its bootstrap band, and what can be said of them below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from roadmap.analysis.charts import plain_ticks, plotted_page
from roadmap.analysis.edf import band, pairs, shares, summary, unequal_costs, weights
from roadmap.analysis.page import Texts, legend_entries, write_around
from roadmap.analysis.populations import COSTS, MOST, Population, shared_designs
from roadmap.analysis.style import BLUE, GREEN, GREY, GRID, ORANGE, PURPLE, VERMILLION, save, styled
from roadmap.errors import RequestError
from roadmap.textual import aligned

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
        names = ", ".join(each.name for each in populations)
        raise RequestError(f"--kind edf tells {MOST} spaces apart, and these are {names}; choose among them by --where")
    table = summary(populations)
    title = f"Error of {len(populations)} design spaces" if len(populations) > 1 else "Error of a design space"
    texts = Texts(title, conditions, _note(populations, table, weighed))
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
        for each, row, lane, *look in zip(populations, table.to_dict("records"), lanes, COLORS, DASHES, strict=False):
            _draw_line(axes, each, *look)
            _draw_median(axes, row, lane, look[0])
        axes.set(
            ylim=(0, 100), xlabel="top-1 error after the last epoch (%)", ylabel="designs with at most that error (%)"
        )
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.grid(color=GRID)
        page = plotted_page(figure, SIZE, texts, list(legend_entries(figure)))
        write_around(figure, page)
    return figure


def _draw_line(axes: Axes, population: Population, color: str, dashes: Any) -> None:
    at = np.unique(population.errors)
    ends = np.concatenate([[axes.get_xlim()[0]], at, [axes.get_xlim()[1]]])
    lower, upper = (_stepped(values) for values in band(population, at))
    axes.fill_between(ends, lower, upper, step="post", color=color, alpha=0.15, linewidth=0, zorder=1)
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


def _note(populations: Sequence[Population], table: pd.DataFrame, weighed: str | None) -> str:
    notes = [
        "Bands: 95 % at each error, by bootstrap over designs.",
        "Circles, at half of the designs: medians with their 95 % intervals.",
    ]
    if weighed:
        few = ", ".join(f"{row['space']} {row['effective']:.0f}" for row in table.to_dict("records"))
        notes.append(
            f"Normalised by {COSTS[weighed]}: designs of equal cost weigh the same in each space, which is then worth "
            f"so many designs of equal weight: {few}."
        )
    compared = pairs(populations)
    said = [pair_words(row, len(compared)) for row in compared.to_dict("records")] if len(compared) == 1 else []
    said += cautions(populations, table, weighed)
    return " ".join([*notes, *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said)])


def pair_words(row: Mapping[Any, Any], tests: int) -> str:
    """What is to be said of two populations."""
    corrected = f", {row['p_holm']:.3g} by Holm's correction for {tests} pairs" if tests > 1 else ""
    test = "" if np.isnan(row["p"]) else f" (Kolmogorov-Smirnov p {row['p']:.3g}{corrected})"
    return (
        f"median of {row['other']} less that of {row['one']}: {row['delta']:+.2f} points, 95 % {row['low']:+.2f} to "
        f"{row['high']:+.2f}; EDFs at most {row['distance']:.2f} apart{test}"
    )


def words(populations: Sequence[Population], weighed: str | None) -> str:
    """The numbers as text: a row a space, a sentence a pair, and what is to be known of them."""
    table, compared = summary(populations), pairs(populations)
    drawn = table["drawn"].iloc[0]
    header = ["space", "designs", "seeds", "median error (%)", "95 %", "best", f"best of {drawn}", "95 % of draws"]
    header += ["median GMACs", "params (M)"]
    lines = [
        [
            row["space"],
            str(row["designs"]),
            str(row["seeds_min"]) if row["seeds_min"] == row["seeds_max"] else f"{row['seeds_min']}–{row['seeds_max']}",
            f"{row['median']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['best']:.2f}",
            f"{row['best_of_mean']:.2f}",
            f"{row['best_of_low']:.2f} to {row['best_of_high']:.2f}",
            f"{row['gmacs']:.4g}",
            f"{row['params']:.3g}",
        ]
        for row in table.to_dict("records")
    ]
    said = [pair_words(row, len(compared)) for row in compared.to_dict("records")]
    return "\n".join([aligned(header, lines), *said, *cautions(populations, table, weighed)])


def cautions(populations: Sequence[Population], table: pd.DataFrame, weighed: str | None) -> list[str]:
    """What makes the EDFs less than they look, a sentence each."""
    found = []
    if unequal := {cost: words for cost, words in unequal_costs(populations).items() if cost != weighed}:
        found.append(
            f"these spaces differ in cost ({'; '.join(unequal.values())}), which may be what they differ by in error; "
            f"with --normalise {' or '.join(unequal)} designs of equal cost weigh the same"
        )
    if len({*table["seeds_min"], *table["seeds_max"]}) > 1:
        found.append("not all designs have as many seeds: those of fewer scatter more, which widens their space's EDF")
    if both := shared_designs(populations):
        found.append(
            f"{both} of the designs stand in more than one space, but p and intervals take spaces for independent"
        )
    for row in table[table["missing"] > 0].to_dict("records"):
        found.append(f"{row['space']} lacks {row['missing']} of its designs, of which no run has finished")
    return [f"caution: {sentence}" for sentence in found]
