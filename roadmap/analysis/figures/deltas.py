"""What each step changed: the gap to the step before with its 95 % interval, and the paper's gap beside it."""

from collections.abc import Sequence
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
from roadmap.analysis.figures.style import BLUE, EDGE, GREY, GRID, INK, VERMILLION, YELLOW, save, styled
from roadmap.analysis.statistics import ALPHA
from roadmap.errors import RequestError

PLOT, ROW = 3.5, 0.28  # inches
OURS, PAPER = -0.12, 0.24  # in rows below the middle of a row


def draw_deltas(table: pd.DataFrame, file: Path, *, title: str, subtitle: str, paper: str = "") -> None:
    """Draw ``deltas_figure`` of ``road``'s table into ``file``, a png, svg or pdf."""
    save(lambda: deltas_figure(table, title, subtitle, paper), file)


def deltas_figure(table: pd.DataFrame, title: str, subtitle: str, paper: str = "") -> Figure:
    """A row a step that has a parent: label, section, ``delta`` with ``delta_low`` to ``delta_high`` in percentage
    points, ``delta_n`` pairs of seeds, ``delta_p_holm`` and ``paper_delta``; ``paper`` says what the latter are of.

    Raises RequestError where no step has a gap.
    """
    table = table[table["parent"].notna()].reset_index(drop=True)
    if table["delta"].isna().all():
        raise RequestError("no figure to draw: no step and the step before it have both been run yet")
    words = {name: table[name].astype(str).str.split().str.join(" ") for name in ("label", "section")}
    table = table.assign(**words)
    table["section_number"] = (table["section"] != table["section"].shift()).cumsum() - 1
    with styled():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        limit, cut = _limit(table)
        _draw_axis(axes, table, limit)
        _draw_ours(axes, table, limit)
        _draw_paper(axes, table)
        columns = _columns(table)
        texts = Texts(title, subtitle, _note(table, cut, paper))
        size = PLOT, ROW * len(table)
        page = laid_out(size, row_sides(table, columns), texts, list(legend_entries(figure)), header_space())
        figure.set_size_inches(page.width, page.height)
        axes.set_position(page.axes)
        write_rows(figure, page, table, columns)
        write_around(figure, page)
    return figure


def _limit(table: pd.DataFrame) -> tuple[float, bool]:
    """How far the axis goes either way, and whether intervals are cut: a few seeds make very wide ones."""
    shown = max(table[["delta", "paper_delta"]].abs().max().max(), 0.1)
    ends = table[["delta_low", "delta_high"]].abs().max().max()
    widest = shown if pd.isna(ends) else max(ends, shown)
    return min(widest, 2.5 * shown) * 1.06, widest > 2.5 * shown


def _draw_axis(axes: Axes, table: pd.DataFrame, limit: float) -> None:
    ticks = [tick for tick in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(-limit, limit) if abs(tick) <= limit]
    axes.set(xlim=(-limit, limit), ylim=(len(table) - 0.5, -0.5), yticks=[])
    axes.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axes.set_xlabel("change of top-1 accuracy (percentage points)")
    axes.grid(axis="x", color=GRID)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    axes.spines["left"].set_visible(False)


def _outside(table: pd.DataFrame) -> pd.Series:
    """Which gaps are outside the noise of the seeds, corrected for how many there are."""
    return table["delta_p_holm"] < ALPHA


def _draw_ours(axes: Axes, table: pd.DataFrame, limit: float) -> None:
    known = table[table["delta_low"].notna()]
    low, high = known["delta_low"].clip(-limit, limit), known["delta_high"].clip(-limit, limit)
    axes.hlines(known.index + OURS, low, high, color=INK, linewidth=1.1, zorder=2)
    for ends, sign in ((known["delta_low"], "<"), (known["delta_high"], ">")):
        cut = ends.abs() > limit
        caps: dict[str, Any] = {"linestyle": "none", "color": INK, "clip_on": False, "zorder": 2}
        axes.plot(ends.clip(-limit, limit)[cut], known.index[cut] + OURS, sign, markersize=4, **caps)
        axes.plot(ends[~cut], known.index[~cut] + OURS, "|", markersize=5, **caps)
    marks: Sequence[tuple[str, pd.Series, dict[str, Any]]] = (
        ("gain outside noise", _outside(table) & (table["delta"] > 0), {"marker": "^", "mfc": BLUE}),
        ("loss outside noise", _outside(table) & (table["delta"] < 0), {"marker": "v", "mfc": VERMILLION}),
        ("within noise", ~_outside(table) & table["delta_low"].notna(), {"marker": "o", "mfc": "white"}),
        ("noise unknown", table["delta"].notna() & table["delta_low"].isna(), {"marker": "x", "mfc": "none"}),
    )
    for label, which, form in marks:
        rows = table[which]
        if len(rows):
            drawn = {"linestyle": "none", "markersize": 6, "mec": INK, "zorder": 3, **form}
            axes.plot(rows["delta"], rows.index + OURS, label=label, **drawn)


def _draw_paper(axes: Axes, table: pd.DataFrame) -> None:
    if table["paper_delta"].notna().any():
        form: dict[str, Any] = {
            "linestyle": "none",
            "markersize": 4.6,
            "mfc": YELLOW,
            "mec": EDGE,
            "clip_on": False,
            "zorder": 2.5,
        }
        axes.plot(table["paper_delta"], table.index + PAPER, "D", label="the paper's", **form)


def _columns(table: pd.DataFrame) -> list[Column]:
    def cells(values: pd.Series, form: str = "{:+.2f}", missing: str = "") -> list[str]:
        return [missing if pd.isna(value) else form.format(value) for value in values]

    interval = [
        f"{low:+.2f} to {high:+.2f}" if pd.notna(low) else ""
        for low, high in zip(table["delta_low"], table["delta_high"], strict=True)
    ]
    columns = [
        Column("Δ", [cells(table["delta"], missing="–")]),
        Column("95 % interval", [interval]),
        Column("seeds", [cells(table["delta_n"], "{:.0f}")]),
        Column("p\n(Holm)", [cells(table["delta_p_holm"], "{:.3f}")]),
        Column("paper Δ", [cells(table["paper_delta"])], (GREY,)),
    ]
    return [column for column in columns if any(column.lines[0])]


def _note(table: pd.DataFrame, cut: bool, paper: str) -> str:
    several = table["delta_low"].notna().any()
    lone = (table["delta"].notna() & table["delta_low"].isna()).any()
    tested = int(table["delta_p_holm"].notna().sum())
    noise = f"Outside noise: p < {ALPHA:g} by the t-test, corrected for {tested} comparisons (Holm)"
    notes = [
        "Δ: to the adopted step before",
        f", its 95 % interval by itself. {noise}." if several else ".",
        " Noise unknown: one seed, or seeds without any spread." if lone else "",
        " < and >: the interval goes on." if cut else "",
        " –: not run yet." if table["delta"].isna().any() else "",
        f" Paper: {paper}." if paper and table["paper_delta"].notna().any() else "",
    ]
    return "".join(notes)
