"""What each step changed: the gap to the adopted step before it with a 95 % interval, and the paper's gap."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from roadmap.comparison.statistics import ALPHA
from roadmap.errors import RequestError
from roadmap.paper.published import SCALED_FROM
from roadmap.plots.charts import framed, sentences
from roadmap.plots.rows import Rows, columns_of, interval_texts, step_gaps
from roadmap.plots.theme import WIDTH
from roadmap.steps.path import Step

TITLE = "change of top-1 accuracy (percentage points)"
COLUMNS = (
    ("Δ", "delta", "{:+.2f}", "number", "–"),
    ("95 % interval", "interval", "{}"),
    ("seeds", "delta_n", "{:.0f}"),
    ("p\n(Holm)", "delta_p_holm", "{:.3f}"),
    ("paper Δ", "paper_delta", "{:+.2f}", "faint"),
)
TOOLTIP = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to", "delta_n": "seeds"}
TOOLTIP |= {"delta_p_holm": "p (Holm)", "paper_delta": "paper Δ"}


def paper_regime(steps: Sequence[Step]) -> str:
    """Return which of the paper's runs the steps are compared with."""
    regime = steps[0].composed.regime.name
    return f"regime {SCALED_FROM.get(regime, regime)} on ImageNet-1K, for orientation"


def deltas_chart(
    table: pd.DataFrame, *, title: str, subtitle: str, paper: str = "", width: int = WIDTH
) -> alt.VConcatChart:
    """Return a chart with one row per step that has a parent.

    ``table`` is a ``step_table``: label, section, ``delta`` with ``delta_low`` to ``delta_high`` in percentage points,
    ``delta_n`` pairs of seeds, ``delta_p_holm`` and ``paper_delta``; ``paper`` names the runs of the latter. Raises
    RequestError if no step has a gap.
    """
    table = table[table["parent"].notna()].reset_index(drop=True)
    if table["delta"].isna().all():
        raise RequestError("no figure to draw: no step and the step before it have both been run yet")
    columns = columns_of(table.assign(interval=pd.Series(interval_texts(table, "delta"), dtype=object)), COLUMNS)
    rows = Rows.of(table, 26, width, columns)
    marks, cut = step_gaps(rows, table, table["delta_p_holm"] < ALPHA, TITLE, "paper_delta", TOOLTIP)
    return framed(rows.chart(*marks), title, subtitle, _caption(table, cut, paper), rows.total_width)


def _caption(table: pd.DataFrame, cut: bool, paper: str) -> str:
    several = table["delta_low"].notna().any()
    tested = int(table["delta_p_holm"].notna().sum())
    parts = {
        "Δ: change from the adopted step before.": not several,
        "Δ: change from the adopted step before, with its own 95 % interval. Outside noise: "
        f"p < {ALPHA:g} in a t-test, corrected for {tested} comparisons (Holm).": several,
        "Noise unknown: one seed, or seeds without spread.": (table["delta"].notna() & table["delta_low"].isna()).any(),
        "Intervals that reach an edge continue beyond it.": cut,
        "–: not run yet.": table["delta"].isna().any(),
        f"Diamonds: the paper's Δ, {paper}.": paper and table["paper_delta"].notna().any(),
    }
    return sentences(parts)
