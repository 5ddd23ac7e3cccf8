"""Accuracy against what it costs: a point a group of runs, and the front of those that nothing beats in both."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from roadmap.analysis.figures.charts import check_one_comparison, plain_ticks, plotted_page, seeds_words
from roadmap.analysis.figures.labels import group_names, leader_points, place
from roadmap.analysis.figures.page import LINE, Page, Texts, legend_entries, write_around
from roadmap.analysis.figures.style import BLUE, EDGE, GREY, GRID, INK, SKY, SMALL, save, styled, width, wrapped
from roadmap.analysis.groups import summarise
from roadmap.analysis.reading.benches import with_speeds
from roadmap.analysis.table import data_words, mac_factor, mac_header
from roadmap.checked import listed
from roadmap.errors import RequestError


@dataclass(frozen=True)
class Cost:
    """One of the costs that accuracy is set against; ``better`` is -1 where less is better."""

    column: str
    label: str
    title: str
    better: int = -1
    measured: bool = True


COSTS = {
    "gmacs": Cost("gmacs", "{unit} of one image", "FLOPs", measured=False),
    "params": Cost("params_m", "parameters (millions)", "parameters", measured=False),
    "throughput": Cost("images_per_second", "images per second in training", "training throughput", better=1),
    "memory": Cost("peak_memory_gb", "peak memory in training (GiB)", "memory"),
    "time": Cost("train_seconds", "training time (s)", "training time"),
}
SPEED = "bench_speed"  # the column of what a bench measured
BENCH_COSTS = {
    "inference": Cost(SPEED, "images per second in inference", "inference throughput", better=1),
    "training": Cost(SPEED, "images per second in training", "training throughput", better=1),
    "latency": Cost(SPEED, "milliseconds for one image", "latency"),
}
FRONT, MAYBE, BEATEN = "on the Pareto front", "beaten within the noise", "beaten by another"
MARKS: dict[str, dict[str, Any]] = {
    FRONT: {"marker": "o", "mfc": BLUE, "mec": "black"},
    MAYBE: {"marker": "D", "mfc": "white", "mec": BLUE},
    BEATEN: {"marker": "s", "mfc": "white", "mec": GREY},
}
SIZE, WIDE_SIZE, MANY = (6.2, 3.8), (8.6, 5.4), 20  # inches of the axes, and for more points than so many
LONGEST = 2.0  # inches of a label, wrapped beyond
MARKER = 0.05  # inches around a point


def draw_tradeoff(runs: pd.DataFrame, x: str, file: Path, benches: pd.DataFrame | None = None) -> None:
    """Draw the accuracy of finished ``runs`` against a cost into ``file``, seeds taken together.

    ``x`` is one of ``COSTS``, or given a table of ``load_bench`` one of ``BENCH_COSTS``, measured apart from training.
    Raises RequestError for an unknown cost, for runs whose accuracies are no comparison, for a measured cost of
    runs or benches on different devices, and for benches of other networks.
    """
    costs = COSTS if benches is None else BENCH_COSTS
    if x not in costs:
        if x in BENCH_COSTS:
            raise RequestError(f"--x {x} is what `roadmap bench` measures; name its record by --bench")
        raise RequestError(f"unknown x '{x}'; choose {listed(costs)}")
    cost = costs[x]
    runs = runs[runs["status"] == "finished"]
    if not len(runs):
        raise RequestError("no finished run in these folders")
    check_one_comparison(runs)
    words = [data_words(runs)]
    table = summarise(runs)
    if benches is not None:
        unit = "milliseconds" if x == "latency" else "images_per_second"
        table, measured = with_speeds(table, benches, f"{x}_{unit}", SPEED)
        words.append(measured)
        if without := int(table[SPEED].isna().sum()):
            words.append(f"{without} design{'s' * (without > 1)} without a bench left out")
    elif cost.measured:
        words.append(_measured_on(runs, x))
    table = table[table["top1"].notna() & table[cost.column].notna()].reset_index(drop=True)
    if not len(table):
        raise RequestError(f"none of these runs says its {cost.title}; choose another x of {listed(costs)}")
    table["label"] = group_names(table)
    title, subtitle = f"Accuracy against {cost.title}", "; ".join([*words, "accuracy after the last epoch"])
    save(lambda: tradeoff_figure(table, cost, title, subtitle), file)


def _measured_on(runs: pd.DataFrame, x: str) -> str:
    """The device that all runs were measured on; RequestError if there are several."""
    machines = sorted({_machine(run) for run in runs[["device", "processes"]].to_dict("records")})
    if len(machines) > 1:
        raise RequestError(
            f"these runs were measured on {' and '.join(machines)}, whose {COSTS[x].title} is no comparison; "
            "name folders of one device only, or choose --x gmacs or params"
        )
    whole = ", where memory is the whole process's" if x == "memory" and machines[0].endswith("cpu") else ""
    return f"measured on {machines[0]}{whole}"


def _machine(run: dict[Any, Any]) -> str:
    processes = 1 if pd.isna(run["processes"]) else int(run["processes"])
    return f"{processes} x {run['device']}" if processes > 1 else str(run["device"])


def pareto(x: np.ndarray, y: np.ndarray, better: int) -> np.ndarray:
    """Which points no other beats: none is at least as good in both and better in one. ``better`` is -1: less x."""
    gain = np.stack([better * x, y], axis=1)
    at_least = np.all(gain[None] >= gain[:, None], axis=2)
    beaten = at_least & np.any(gain[None] > gain[:, None], axis=2)
    return np.logical_not(np.any(beaten, axis=1))


def tradeoff_figure(table: pd.DataFrame, cost: Cost, title: str, subtitle: str) -> Figure:
    """A point a row of ``table``: label, ``n`` seeds, ``top1``, ``top1_std`` and ``cost.column``."""
    front = pareto(table[cost.column].to_numpy(float), table["top1"].to_numpy(), cost.better)
    spread = table["top1_std"].where(table["n"] > 1)
    table = table.assign(mark=np.where(front, FRONT, BEATEN), low=table["top1"] - spread, high=table["top1"] + spread)
    return points_figure(table, cost, Texts(title, subtitle, _note(table, cost)), "standard deviation")


def points_figure(table: pd.DataFrame, cost: Cost, texts: Texts, whiskers: str) -> Figure:
    """A point a row of ``table``: ``top1``, ``cost.column``, its ``mark`` of ``MARKS``, the ``label`` written beside it
    if it has one, and a whisker from ``low`` to ``high``, NaN for none, called ``whiskers`` in the legend.

    The page grows until all labels have room.
    """
    factor, unit = (mac_factor(table), mac_header(table)[0]) if cost.column == "gmacs" else (1.0, "")
    table = table.assign(x=table[cost.column].astype(float) * factor)
    # those with a label first, as `place` wants them
    table = table.sort_values("label", key=lambda label: label == "", kind="stable").reset_index(drop=True)
    with styled():
        names = ["\n".join(wrapped(label, SMALL, LONGEST)) for label in table["label"] if label]
        sizes = np.array([[width(name.split("\n"), SMALL), LINE * SMALL * (name.count("\n") + 1)] for name in names])
        wide, height = SIZE if len(table) <= MANY else WIDE_SIZE
        while True:
            figure = Figure()
            axes = figure.add_axes((0, 0, 1, 1))
            _draw_points(axes, table, cost, whiskers)
            axes.set_xlabel(cost.label.format(unit=unit))
            page = plotted_page(figure, (wide, height), texts, list(legend_entries(figure)))
            write_around(figure, page)
            if _write_labels(figure, page, table, cost, names, sizes):
                return figure
            height *= 1.25


def _note(table: pd.DataFrame, cost: Cost) -> str:
    spread = table["top1_std"].notna().any()
    better = "more" if cost.better > 0 else "less"
    return (
        f"Points: {seeds_words(table['n'])}"
        + (", whiskers: standard deviation of the accuracy" if spread else "")
        + f". On the front: no other is as accurate with {better} {cost.title}, by the means alone."
    )


def _draw_points(axes: Axes, table: pd.DataFrame, cost: Cost, whiskers: str) -> None:
    x = table["x"]
    low, high = table["low"].fillna(table["top1"]).min(), table["high"].fillna(table["top1"]).max()
    room = 0.12 * max(high - low, 1.0)
    axes.set_ylim(max(low - room, -room / 4), high + room)
    if x.min() > 0 and x.max() / x.min() > 30:
        axes.set_xscale("log")
        axes.set_xlim(x.min() / 1.4, x.max() * 1.4)
    else:
        room = 0.1 * ((x.max() - x.min()) or abs(x.max()) or 1.0)
        axes.set_xlim(max(x.min() - room, 0.0) if x.min() >= 0 else x.min() - room, x.max() + room)
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.set_ylabel("top-1 accuracy (%)")
    axes.grid(color=GRID)
    axes.plot(*_front_path(table, cost).T, color=SKY, linewidth=1.2, zorder=1.5)
    known = table[table["low"].notna()]
    if len(known):
        ends = [known["top1"] - known["low"], known["high"] - known["top1"]]
        form: dict[str, Any] = {"fmt": "none", "ecolor": EDGE, "elinewidth": 0.9, "capsize": 2.0, "zorder": 1.8}
        axes.errorbar(known["x"], known["top1"], yerr=ends, label=whiskers, **form)
    for mark, form in MARKS.items():
        marked = table[table["mark"] == mark]
        if len(marked):
            axes.plot(marked["x"], marked["top1"], linestyle="none", markersize=5, zorder=3, label=mark, **form)


def _front_path(table: pd.DataFrame, cost: Cost) -> np.ndarray:
    """Points along the front's steps, (n, 2): what accuracy is to be had at a cost."""
    front = table[table["mark"] == FRONT].sort_values(["x", "top1"])
    corners = [tuple(front.iloc[0][["x", "top1"]])]
    for x, y in zip(front["x"][1:], front["top1"][1:], strict=True):
        corners += [(x, corners[-1][1]) if cost.better < 0 else (corners[-1][0], y), (x, y)]
    ends = np.array(corners, dtype=float)
    return np.vstack([ends[:1], *(np.linspace(one, other, 40) for one, other in itertools.pairwise(ends))])


def _write_labels(
    figure: Figure, page: Page, table: pd.DataFrame, cost: Cost, names: list[str], sizes: np.ndarray
) -> bool:
    """The points' names, with a line to the point where one stands apart; False where there is no room for all."""
    axes = figure.axes[0]

    def inches(y: pd.Series) -> np.ndarray:
        return axes.transData.transform(np.stack([table["x"], y], axis=1)) / figure.dpi

    points, *whiskers = (inches(table[name].fillna(table["top1"])) for name in ("top1", "low", "high"))
    lows, highs = whiskers
    obstacles = np.hstack([np.minimum(points, lows) - MARKER, np.maximum(points, highs) + MARKER])
    area = page.left + 0.04, page.bottom + 0.04, page.right - 0.04, page.top - 0.02
    pad = np.array([0.04, 0.02])
    front = axes.transData.transform(_front_path(table, cost)) / figure.dpi
    points = points[: len(names)]
    corners = place(points, sizes + pad, obstacles, area, front)
    if corners is None:
        return False
    for point, corner, size, name in zip(points, corners, sizes, names, strict=True):
        box = np.hstack([corner, corner + size + pad])[None]
        line = leader_points(point, box)[0]
        if np.linalg.norm(line[-1] - line[0]) > 0.1:
            ends = line[[0, -1]] / (page.width, page.height)
            figure.add_artist(Line2D(ends[:, 0], ends[:, 1], color=EDGE, linewidth=0.5, zorder=1))
        x, y = corner + pad / 2 + (0, size[1] / 2)
        place_at: dict[str, Any] = {"transform": figure.dpi_scale_trans, "va": "center", "linespacing": 1.1}
        figure.text(x, y, name, size=SMALL, color=INK, **place_at)
    return True
