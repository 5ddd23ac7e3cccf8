"""Learning curves: a panel a group of runs, the mean over its seeds with a band from the lowest to the highest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roadmap.analysis.figures.charts import check_one_comparison, overhang, plain_ticks
from roadmap.analysis.figures.labels import group_key, group_names
from roadmap.analysis.figures.page import GAP, LINE, MARGIN, Page, Texts, laid_out, legend_entries, write_around
from roadmap.analysis.figures.style import (
    BLUE,
    GRID,
    INK,
    PALE_GREY,
    SKY,
    SMALL,
    TEXT,
    VERMILLION,
    save,
    styled,
    wrapped,
)
from roadmap.analysis.table import data_words
from roadmap.checked import listed
from roadmap.config.rows import paper_parents
from roadmap.errors import RequestError

LABELS = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "ema_top1": "top-1 accuracy of averaged weights (%)",
    "ema_top5": "top-5 accuracy of averaged weights (%)",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "lr": "learning rate",
    "images_per_second": "images per second in training",
    "data_wait": "share of the time waiting for data",
    "train_seconds": "seconds of training in an epoch",
    "seconds": "seconds of an epoch",
}
NOT_METRICS = ("epoch", "run_id", "variant", "step", "seed")
PANELS = 6.6  # inches that a row of panels takes, at least
NARROWEST = 1.55  # inches of a panel
EPOCH = 0.36  # inches below the axes


@dataclass(frozen=True)
class Curve:
    """A group of runs: its name, finished seeds as (seeds, epochs), and each run that is not finished by itself.

    All are Series by epoch.
    """

    name: str
    finished: list[pd.Series]
    unfinished: list[pd.Series]

    def together(self) -> pd.DataFrame:
        """The epochs that every finished seed has, and the mean, lowest and highest of their values."""
        seeds = pd.concat(self.finished, axis=1, join="inner").sort_index() if self.finished else pd.DataFrame()
        return pd.DataFrame({"mean": seeds.mean(axis=1), "low": seeds.min(axis=1), "high": seeds.max(axis=1)})


@dataclass(frozen=True)
class Grid:
    """Panels in rows; their width and height, and that of the names above them, in inches."""

    columns: int
    wide: float
    high: float
    head: float

    def size(self, panels: int) -> tuple[float, float]:
        """Width and height of so many."""
        rows = math.ceil(panels / self.columns)
        wide = self.columns * (self.wide + GAP) - GAP
        return wide, rows * (self.high + self.head + GAP) - GAP


def draw_curves(runs: pd.DataFrame, history: pd.DataFrame, metric: str, file: Path) -> None:
    """Draw one number of the ``history`` of ``runs`` by epoch into ``file``; unfinished runs as far as they went.

    Raises RequestError for a number that no run logged, and for runs that are no comparison.
    """
    numbers = [name for name in history.select_dtypes("number").columns if name not in NOT_METRICS]
    if metric not in numbers:
        known = f"; choose {listed(sorted(numbers))}" if numbers else ", nor has any run here an epoch yet"
        raise RequestError(f"no run logged a metric '{metric}'{known}")
    check_one_comparison(runs)
    curves = _curves(runs, history[history[metric].notna()], metric)
    if not curves:
        raise RequestError(f"none of these runs logged '{metric}'; choose {listed(sorted(numbers))}")
    subtitle = f"{data_words(runs)}; by epoch"
    title = f"Learning curves: {LABELS.get(metric, metric)}"
    save(lambda: curves_figure(curves, LABELS.get(metric, metric), title, subtitle), file)


def _curves(runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> list[Curve]:
    """In the order of the paper's steps, others behind them."""
    logged = {run_id: rows.groupby("epoch")[metric].last() for run_id, rows in history.groupby("run_id")}
    place = {step: number for number, step in enumerate(paper_parents())}
    runs = runs[runs["run_id"].isin(list(logged))]
    order = runs["step"].map(place).fillna(len(place)) + 0.5 * (runs["variant"] != runs["step"])
    runs = runs.assign(place=order).sort_values(["regime", "place", "variant"], kind="stable")
    keys = runs["definition"].map(group_key)
    firsts = runs[~keys.duplicated()]
    curves = []
    for key, name in zip(keys[firsts.index], group_names(firsts), strict=True):
        members = runs[keys == key]
        done = members["status"] == "finished"
        one, other = ([logged[run_id] for run_id in members.loc[which, "run_id"]] for which in (done, ~done))
        curves.append(Curve(name, one, other))
    return curves


def curves_figure(curves: Sequence[Curve], label: str, title: str, subtitle: str) -> Figure:
    """A panel a curve, all with the same axes."""
    columns = min(len(curves), max(2, min(5, math.ceil(math.sqrt(len(curves))))))
    wide = max(PANELS / columns - GAP, NARROWEST)
    high = max(0.62 * wide, 1.0) if columns > 1 else 3.5
    with styled():
        names = [wrapped(curve.name, SMALL, wide) for curve in curves]
        figure = Figure()
        panels = [figure.add_axes((0, 0, 1, 1)) for _ in curves]
        together = [curve.together() for curve in curves]
        log = _is_wide([values for curve in curves for values in (*curve.finished, *curve.unfinished)])
        for axes, curve, values in zip(panels, curves, together, strict=True):
            axes.set_yscale("log" if log else "linear")
            _draw_panel(axes, curve, values, together if len(curves) > 1 else [])
        _share_limits(panels)
        ticks = overhang(figure, panels[0], (wide, high))[0]
        grid = Grid(columns, wide, high, LINE * SMALL * (1 + max(map(len, names))) + 0.05)
        texts, left = Texts(title, subtitle, _note(curves, log)), MARGIN + LINE * TEXT + GAP / 2 + ticks
        inside, sides = grid.size(len(curves)), (left, MARGIN + GAP)
        page = laid_out(inside, sides, texts, list(legend_entries(figure)))
        figure.set_size_inches(page.width, page.height)
        ends = map(_last, curves, together)
        heads = ["\n".join([*lines, end]) for lines, end in zip(names, ends, strict=True)]
        _arrange(figure, page, grid, heads)
        middle: dict[str, Any] = {"transform": figure.dpi_scale_trans, "ha": "center", "va": "center"}
        figure.text((page.left + page.right) / 2, page.bottom - EPOCH, "epoch", **middle)
        figure.text(MARGIN + LINE * TEXT / 2, (page.bottom + page.top) / 2, label, rotation=90, **middle)
        write_around(figure, page)
    return figure


def _arrange(figure: Figure, page: Page, grid: Grid, heads: Sequence[str]) -> None:
    """Put each panel in its place, its name above it; tick labels at the outer panels only."""
    step = (page.right - page.left + GAP) / grid.columns
    for number, (axes, head) in enumerate(zip(figure.axes, heads, strict=True)):
        row, column = divmod(number, grid.columns)
        x, top = page.left + column * step, page.top - row * (grid.high + grid.head + GAP) - grid.head
        place = x / page.width, (top - grid.high) / page.height, (step - GAP) / page.width, grid.high / page.height
        axes.set_position(place)
        axes.tick_params(labelleft=column == 0, labelbottom=number + grid.columns >= len(heads))
        figure.text(x, top + 0.05, head, size=SMALL, color=INK, va="bottom", transform=figure.dpi_scale_trans)


def _draw_panel(axes: Axes, curve: Curve, values: pd.DataFrame, everything: list[pd.DataFrame]) -> None:
    known = [one["mean"] for one in everything if len(one)]
    if known:
        means = pd.concat(known, axis=1)
        low, high = means.min(axis=1), means.max(axis=1)
        label = "all of these, from the lowest to the highest mean"
        axes.fill_between(low.index, low, high, color=PALE_GREY, linewidth=0, label=label, zorder=0.5)
    if len(curve.finished) > 1:
        form: dict[str, Any] = {"color": SKY, "alpha": 0.6, "linewidth": 0, "zorder": 1}
        axes.fill_between(values.index, values["low"], values["high"], label="its seeds, lowest to highest", **form)
    if len(values):
        form = {"color": BLUE, "linewidth": 1.3, "marker": _marker(values), "zorder": 2}
        label = "its seeds' mean" if len(curve.finished) > 1 else "its only seed"
        axes.plot(values.index, values["mean"], markersize=3, label=label, **form)
    for number, run in enumerate(curve.unfinished):
        form = {"color": VERMILLION, "linestyle": "--", "linewidth": 1.0, "marker": _marker(run)}
        axes.plot(run.index, run, markersize=3, label="_" if number else "a run that is not finished", **form)
    axes.grid(color=GRID)
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _marker(values: pd.DataFrame | pd.Series) -> str | None:
    """One epoch makes no line."""
    return "o" if len(values) == 1 else None


def _is_wide(values: list[pd.Series]) -> bool:
    """Whether values are so far apart that only a logarithmic axis shows them."""
    every = np.concatenate([series.to_numpy(float) for series in values])
    every = every[np.isfinite(every)]
    return bool(len(every) and every.min() > 0 and every.max() / every.min() > 300)


def _share_limits(panels: list[Axes]) -> None:
    """The widest limits of all, a little wider; the first panel's legend stands for all."""
    lows, highs = zip(*(axes.get_ylim() for axes in panels), strict=True)
    left, right = zip(*(axes.get_xlim() for axes in panels), strict=True)
    for axes in panels:
        axes.set(xlim=(min(left), max(right)), ylim=(min(lows), max(highs)))


def _last(curve: Curve, values: pd.DataFrame) -> str:
    """What is written under a panel's name: where it ended."""
    going = f"{len(curve.unfinished)} not finished" if curve.unfinished else ""
    if not len(values):
        return going
    seeds = f"{len(curve.finished)} seeds" if len(curve.finished) > 1 else "one seed"
    ended = f"ends at {values['mean'].iloc[-1]:.4g}, {seeds}"
    return f"{ended}; {going}" if going else ended


def _note(curves: Sequence[Curve], log: bool) -> str:
    most = max(len(curve.finished) for curve in curves)
    notes = [
        "Lines: mean over the finished seeds, at the epochs that all of them have; bands: their lowest to highest."
        if most > 1
        else "Lines: one seed, no bands.",
        " Logarithmic axis." if log else "",
        " Dashed: runs that are not finished, each by itself." if any(curve.unfinished for curve in curves) else "",
    ]
    return "".join(notes)
