"""What each step changed: the gap to the adopted step before it with a 95 % interval, and the paper's gap."""

import altair as alt
import pandas as pd

from roadmap.comparison.statistics import ALPHA
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, tooltips
from roadmap.plots.rows import Column, Rows, cells, gap_kinds, gap_limit, gap_marks, one_line
from roadmap.plots.theme import WIDTH

TITLE = "change of top-1 accuracy (percentage points)"


def deltas_chart(
    table: pd.DataFrame, *, title: str, subtitle: str, paper: str = "", width: int = WIDTH
) -> alt.VConcatChart:
    """Return a chart with one row per step that has a parent.

    ``table`` is ``road``'s: label, section, ``delta`` with ``delta_low`` to ``delta_high`` in percentage points,
    ``delta_n`` pairs of seeds, ``delta_p_holm`` and ``paper_delta``; ``paper`` names the runs of the latter. Raises
    RequestError if no step has a gap.
    """
    table = table[table["parent"].notna()].reset_index(drop=True)
    if table["delta"].isna().all():
        raise RequestError("no figure to draw: no step and the step before it have both been run yet")
    kinds = gap_kinds(table["delta"], table["delta_p_holm"] < ALPHA, table["delta_low"].notna())
    table = table.assign(row=range(len(table)), kind=kinds)
    limit, cut = gap_limit(table[["delta", "paper_delta"]], table[["delta_low", "delta_high"]])
    rows = Rows(one_line(table["label"]), one_line(table["section"]), 26, width, _columns(table))
    shown = table[["row", "label", "kind", "delta", "delta_low", "delta_high", "delta_n", "delta_p_holm"]]
    shown = shown.assign(paper_delta=table["paper_delta"])
    numbers = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to", "delta_n": "seeds"}
    numbers |= {"delta_p_holm": "p (Holm)", "paper_delta": "paper Δ"}
    tooltip = tooltips({"label": "change", "kind": "kind"}, numbers, ".3~f")
    marks = gap_marks(rows, shown, limit, TITLE, "paper_delta", tooltip)
    return framed(rows.chart(*marks), title, subtitle, _caption(table, cut, paper), rows.total_width)


def _columns(table: pd.DataFrame) -> list[Column]:
    interval = [
        f"{low:+.2f} to {high:+.2f}" if pd.notna(low) else ""
        for low, high in zip(table["delta_low"], table["delta_high"], strict=True)
    ]
    columns = [
        Column("Δ", cells(table["delta"], "{:+.2f}", "–")),
        Column("95 % interval", interval),
        Column("seeds", cells(table["delta_n"], "{:.0f}")),
        Column("p\n(Holm)", cells(table["delta_p_holm"], "{:.3f}")),
        Column("paper Δ", cells(table["paper_delta"], "{:+.2f}"), "faint"),
    ]
    return [column for column in columns if any(column.cells)]


def _caption(table: pd.DataFrame, cut: bool, paper: str) -> str:
    several = table["delta_low"].notna().any()
    lone = (table["delta"].notna() & table["delta_low"].isna()).any()
    tested = int(table["delta_p_holm"].notna().sum())
    parts = [
        "Δ: change from the adopted step before."
        if not several
        else "Δ: change from the adopted step before, with its "
        f"own 95 % interval. Outside noise: p < {ALPHA:g} in a t-test, corrected for {tested} comparisons (Holm).",
        "Noise unknown: one seed, or seeds without spread." if lone else "",
        "Intervals that reach an edge continue beyond it." if cut else "",
        "–: not run yet." if table["delta"].isna().any() else "",
        f"Diamonds: the paper's Δ, {paper}." if paper and table["paper_delta"].notna().any() else "",
    ]
    return " ".join(filter(None, parts))
