"""The chart of a screening design's effects."""

import altair as alt
import pandas as pd

from roadmap.errors import RequestError
from roadmap.plots.charts import BLUE, VERMILLION, WIDTH, YELLOW, framed, sentences
from roadmap.plots.rows import Rows, columns_of, format_cell, gap_limit, gap_marks
from roadmap.screening.effects import MainEffects
from roadmap.statistics.correction import ALPHA

TITLE = "change of top-1 accuracy (percentage points)"
# column -> rows below a row's middle, shape and colour
MARKS = {"paper": (-0.25, "diamond", YELLOW), "effect": (0.0, "circle", BLUE), "path": (0.25, "square", VERMILLION)}
COLUMNS = (
    ("paper Δ", "paper", "{:+.2f}", "faint", "–"),
    ("effect\n± SE", "effect_text", "{}", "number", "–"),
    ("on the\npath", "path", "{:+.2f}", "number", "–"),
)


def effects_chart(found: MainEffects, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with one row per change: its main effect and its gap on the path, with 95 % intervals."""
    table = found.table.assign(effect_low=found.table["low"], effect_high=found.table["high"])
    table = table.assign(paper_low=float("nan"), paper_high=float("nan"))
    if table["effect"].isna().all():
        raise RequestError("no figure to draw: no effect is known yet")
    names = {
        "paper": "the paper's step",
        "effect": f"main effect ({len(found.runs)} runs)",
        "path": "step on the path",
    }
    names = {name: words for name, words in names.items() if table[name].notna().any()}
    limit = gap_limit(table[list(names)], table[[f"{name}_{end}" for name in names for end in ("low", "high")]])
    marked = pd.concat(
        table[[name, f"{name}_low", f"{name}_high"]]
        .set_axis(["delta", "delta_low", "delta_high"], axis=1)
        .assign(label=table["label"], y=table.index + MARKS[name][0], kind=words)
        for name, words in names.items()
    )
    values = zip(table["effect"], table["se"], strict=True)
    texts = [f"{effect:+.2f}{format_cell(se, ' ± {:.2f}')}" for effect, se in values]
    rows = Rows.of(table, 40, WIDTH, columns_of(table.assign(effect_text=texts), COLUMNS))
    kinds = {words: MARKS[name][1:] for name, words in names.items()}
    numbers = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to"}
    marks = gap_marks(rows, marked.dropna(subset="delta"), kinds, limit, TITLE, numbers)
    fit = found.lack_of_fit
    caption = sentences(
        {
            "Main effect: mean with the change minus without, over all allowed combinations of the others.": True,
            "Lines: 95 % intervals, each on its own: one in twenty misses by chance.": table["low"].notna().any(),
            "Changes interact (lack of fit), so an effect is not what the change would add to each network.": (
                fit.p < ALPHA
            ),
            "The paper's, on ImageNet-1K, for orientation.": table["paper"].notna().any(),
        }
    )
    return framed(rows.chart(*marks), title, subtitle, caption, rows.total_width)
