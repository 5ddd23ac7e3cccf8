"""Figures with one row per step: the roadmap, after Figure 2 of arXiv:2201.03545, and the change of each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.comparison.groups import seeds_words
from roadmap.comparison.step_table import (
    data_words,
    held_out,
    mac_unit,
    networks,
    regime_words,
    step_table,
    toggle_words,
)
from roadmap.errors import RequestError
from roadmap.paper.published import REFERENCE, SCALED_FROM, TABLE_NAMES, published_steps
from roadmap.plots.charts import BLUE, GREY, VERMILLION, WIDTH, framed, inline, sentences, tooltips
from roadmap.plots.rows import Column, Rows, columns_of, diamonds, step_gaps, test_words
from roadmap.runs.identity import check_comparable
from roadmap.statistics.correction import ALPHA, CORRECTION_NAMES
from roadmap.statistics.gaps import DEFAULT_TEST, OUTCOMES, GapTest
from roadmap.steps.path import Step

IMAGENET = ("imagenet", "imagenet_parquet", "imagenet_webdataset")
ADOPTED, REJECTED = "adopted", "tried, not adopted"
COLUMNS = (
    ("top-1\n(%)", "accuracy", "{}"),
    ("± std", "top1_std", "± {:.2f}"),
    ("Δ", "delta", "{:+.2f}"),
    ("outcome", "outcome", "{}"),
    ("{unit}", "gmacs", "{:.2f}"),
    ("paper\ntop-1", "paper_top1", "{:.2f}", "faint"),
    ("paper\n{flops}", "paper_gflops", "{:.2f}", "faint"),
)
_NUMBERS = {"top1": "top-1 (%)", "top1_std": "± std", "delta": "Δ", "n": "seeds", "gmacs": "GMACs"}
_SHOWN = ["step", "label", "kind", "reference", *_NUMBERS, "paper_top1", "drawn", "low", "high", "row", "lane"]
DELTA_COLUMNS = (
    ("Δ", "delta", "{:+.2f}", "number", "–"),
    ("95 % interval", "interval", "{}"),
    ("seeds", "delta_n", "{:.0f}"),
    ("p\n{correction}", "p", "{:.3f}"),
    ("paper Δ", "paper_delta", "{:+.2f}", "faint"),
)
DELTA_TOOLTIP = {"delta": "Δ", "delta_low": "95 % from", "delta_high": "to", "delta_n": "seeds"}
DELTA_TOOLTIP |= {"p": "p, corrected", "paper_delta": "paper Δ"}


@dataclass(frozen=True)
class RegimeRuns:
    """The steps of a regime's path and their finished runs; without runs, the paper's values are drawn."""

    runs: pd.DataFrame
    steps: Sequence[Step]
    test: GapTest = DEFAULT_TEST

    @property
    def name(self) -> str:
        return self.steps[0].composed.regime.name

    @property
    def published(self) -> bool:
        """Whether it is drawn from the paper's table alone."""
        return not len(self.runs)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The step table, with the paper's values only if they are of the same data."""
        table = step_table(self.runs, self.steps, self.test)
        return table if self.on_imagenet else table.assign(paper_top1=np.nan, paper_gflops=np.nan)

    @property
    def on_imagenet(self) -> bool:
        """Whether its accuracies are of what the paper's are: ImageNet-1K's validation images at the regime's size."""
        if self.published:
            return True
        definition = self.runs.iloc[0]["definition"]
        data, size = definition.get("data"), self.steps[0].composed.regime.image_size
        # older records have only the name of the data
        whole = isinstance(data, Mapping) and "classes" not in data and not held_out(definition)
        return whole and data.get("name") in IMAGENET and definition.get("image_size") == size

    def drawn(self, *, swin: bool) -> pd.DataFrame:
        """The table, the paper's values in place of missing runs, and optionally the paper's Transformer."""
        table = self.table
        if swin:
            paper = published_steps(self.name)[REFERENCE]
            row = {"step": REFERENCE, "label": paper.label, "section": "Transformer", "adopted": True, "n": 0}
            row |= {"reference": True, "paper_top1": paper.top1, "paper_gflops": float(paper.gflops)}
            table = pd.concat([table.assign(reference=False), pd.DataFrame([row])], ignore_index=True)
        if not self.published:
            return table
        if table["paper_top1"].isna().all():
            raise RequestError(
                f"no finished run of regime {self.name} in these folders, and the paper has no values for this path; "
                "name folders with runs of it"
            )
        own: dict[str, Any] = {
            "top1": table["paper_top1"],
            "top1_std": table["paper_top1_std"],
            "gmacs": table["paper_gflops"],
        }
        own |= {"n": np.where(table["paper_top1_std"].notna(), 3, 1), "source": f"the paper's {TABLE_NAMES[self.name]}"}
        return table.assign(**own, paper_top1=np.nan, paper_gflops=np.nan)


def draw_roadmap(regimes: Sequence[RegimeRuns]) -> alt.VConcatChart:
    """Return the roadmap of one regime, or of two with the larger one's bars below.

    Raises RequestError for two regimes on different data, and if the paper has no values for the path.
    """
    run = [regime for regime in regimes if not regime.published]
    missing = [regime for regime in regimes if regime.published]
    if missing and not all(regime.on_imagenet for regime in run):
        data = run[0].runs.iloc[0]
        raise RequestError(
            f"regime {missing[0].name} has no runs here and would be drawn from the paper, whose accuracies are of "
            f"ImageNet-1K at 224 pixels and not of {data['data']} at {data['image_size']}; leave it out"
        )
    if run:
        check_comparable(pd.concat([regime.runs for regime in run]))
    regimes = sorted(regimes, key=lambda regime: regime.table[["gmacs", "paper_gflops"]].max().max())
    names = [networks(regime.steps) for regime in regimes]
    title = f"From {' and from '.join(name.replace('→', 'to') for name in names)}, one change at a time"
    words = ["data ImageNet-1K: 1,281,167 images to train on, 50,000 to evaluate, 224 pixels"]
    if run:
        words = [data_words(run[0].runs), *(regime_words(each.runs) for each in run), "accuracy after the last epoch"]
    words += [f"{each.name}: the paper's {TABLE_NAMES[each.name]} (arXiv:2201.03545), no runs" for each in missing]
    swin = all(regime.table["paper_top1"].notna().any() for regime in regimes)
    tables = [regime.drawn(swin=swin) for regime in regimes]
    subtitle = "; ".join(words) + toggle_words(regimes[0].steps)
    if len(regimes) == 1:
        return roadmap_chart(tables[0], title=title, subtitle=subtitle)
    labels = tables[0]["label"]
    one, other = (regime.steps[0].composed.regime for regime in regimes)
    for mine, theirs in ((one.baseline, other.baseline), (one.result, other.result)):
        labels = labels.str.replace(mine, f"{mine} / {theirs}", regex=False)
    if swin:
        labels.iloc[-1] += f" / {tables[1]['label'].iloc[-1]}"
    return roadmap_chart(tables[0], title=title, subtitle=subtitle, behind=tables[1], names=names, labels=list(labels))


def roadmap_chart(
    table: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    behind: pd.DataFrame | None = None,
    names: Sequence[str] = ("", ""),
    labels: Sequence[str] | None = None,
    width: int = WIDTH,
) -> alt.VConcatChart:
    """Return a chart with one bar per row of ``table``, in its order.

    The columns are step, label, section, adopted, ``n`` seeds, ``top1`` and ``top1_std`` in percent, ``gmacs`` ×10⁹,
    and ``paper_top1`` and ``paper_gflops``, each NaN if unknown. Optional columns: ``delta`` and ``outcome``;
    ``source`` names the paper's table that a row's own numbers are from, empty for runs; ``reference`` is true for a
    network that is not a step, drawn with a line from top to bottom. ``behind`` is a second regime's table of the same
    rows, ``names`` are the two regimes' and ``labels`` the rows'. Raises RequestError if no row has an accuracy.
    """
    lanes = [table] if behind is None else [table, behind]
    tables = [_prepared(each, lane, names[lane]) for lane, each in enumerate(lanes)]
    drawn = pd.concat(tables, ignore_index=True)
    if drawn.loc[~drawn["reference"], "top1"].isna().all():
        raise RequestError("no figure to draw: no step has an accuracy yet")
    rows = Rows(labels or [*table["label"]], [*table["section"]], 24 if behind is None else 34, width, _columns(tables))
    ends = drawn[["low", "high", "drawn", "paper_top1"]]
    lowest, highest = ends.min().min(), ends.max().max()
    span = max(highest - lowest, 1.0)
    # cropped to what is drawn, with the shortest bar still visible
    domain = [max(highest - 1.15 * span, 0.0), min(max(highest + 0.04 * span, 1.0), 100.0)]
    layers = _layers(rows, drawn, domain, legend_columns=4 if behind is None else 2)
    means = [_means(each[~each["reference"]], name) for each, name in zip(tables, names, strict=False)]
    parts = {
        f"Bars: {'; '.join(means)}.": True,
        "Whiskers: standard deviation.": drawn["top1_std"].notna().any(),
        f"Outcome: of the test of Δ, p < {ALPHA:g} after correction.": drawn["outcome"].isin(OUTCOMES).any(),
        "Diamonds: the paper's values.": drawn.loc[~drawn["reference"], "paper_top1"].notna().any(),
        "The axis does not start at 0.": domain[0] > 0,
        "–: no value.": drawn.loc[~drawn["reference"], "top1"].isna().any(),
        "Swin: the paper's numbers.": drawn["reference"].any(),
        "FLOPs: multiply-accumulates (MACs) per image.": True,
    }
    return framed(rows.chart(*layers), title, subtitle, sentences(parts), rows.total_width)


def _prepared(table: pd.DataFrame, lane: int, name: str) -> pd.DataFrame:
    """The table with its optional columns, deviations only over several seeds, and the places and kinds of its bars."""
    if table.empty:
        raise RequestError("no figure to draw: no step has an accuracy yet")
    optional: dict[str, Any] = {"source": "", "reference": False, "delta": np.nan, "outcome": None}
    table = table.assign(**{key: value for key, value in optional.items() if key not in table}).reset_index(drop=True)
    reference, adopted = table["reference"].astype(bool), table["adopted"].astype(bool)
    spread = table["top1_std"].where((table["n"] > 1) & table["top1"].notna())
    # a reference without runs is drawn from the paper
    drawn = table["top1"].where(~reference | table["top1"].notna(), table["paper_top1"])
    kind = pd.Series([(ADOPTED if each else REJECTED) + (f": {name}" if name else "") for each in adopted])
    return table.assign(
        **{"reference": reference, "adopted": adopted, "top1_std": spread, "drawn": drawn},
        low=(drawn - spread).clip(lower=0),
        high=(drawn + spread).clip(upper=100),
        kind=kind.where(~reference, table["label"] + " (the paper's)"),
        color=np.where(reference, VERMILLION, (BLUE, GREY)[lane]),
        row=range(len(table)),
        lane=lane,
    )


def _layers(rows: Rows, table: pd.DataFrame, domain: list[float], legend_columns: int) -> list[alt.Chart]:
    """Bars from the left edge, whiskers of one standard deviation, the paper's values as diamonds, reference lines."""
    lanes = table["lane"].nunique()
    top = table["row"] - 0.36 + 0.37 * table["lane"]
    bottom = top + (0.72 if lanes == 1 else 0.35)
    base = alt.Chart(inline(table[_SHOWN].assign(top=top, bottom=bottom, middle=(top + bottom) / 2)))
    kinds = table[table["drawn"].notna()].drop_duplicates("kind", keep="last")
    kinds = kinds.sort_values(["reference", "adopted"], ascending=[True, False], kind="stable")
    legend = alt.Legend(columns=legend_columns, symbolType="square")
    stroke = alt.Scale(domain=kinds["kind"].tolist(), range=kinds["color"].tolist())
    fill = alt.Scale(domain=stroke.domain, range=[*kinds["color"].where(kinds["adopted"], "transparent")])

    def x(column: str) -> alt.X:
        scale = alt.Scale(domain=domain, nice=False, zero=False)
        return alt.X(f"{column}:Q", scale=scale, title="top-1 accuracy (%)", axis=alt.Axis(tickCount=7, format="~f"))

    bars = base.transform_filter("datum.drawn != null").mark_rect(strokeWidth=1.2)
    bars = bars.encode(x=x("drawn"), x2=alt.value(0), y=rows.y("top"), y2="bottom:Q")
    whiskers = base.transform_filter("datum.top1_std != null").mark_rule(style="interval")
    layers = [
        bars.encode(
            fill=alt.Fill("kind:N", scale=fill, legend=legend),
            stroke=alt.Stroke("kind:N", scale=stroke),
            tooltip=tooltips({"label": "change", "kind": "kind"}, _NUMBERS, ".4~g"),
        ),
        whiskers.encode(x=x("low"), x2="high:Q", y=rows.y("middle")),
    ]
    if table["reference"].any():
        lines = base.transform_filter("datum.reference").mark_rule(strokeDash=[5, 3])
        layers.append(lines.encode(x=x("drawn"), color=alt.value(VERMILLION)))
    if table.loc[~table["reference"], "paper_top1"].notna().any():
        steps = base.transform_filter("!datum.reference")
        layers.append(diamonds(rows, steps, "paper_top1", "bottom", x("paper_top1")))
    return layers


def _columns(tables: Sequence[pd.DataFrame]) -> list[Column]:
    """The numbers at the right, one line per regime."""
    factor, unit = mac_unit(pd.concat(tables))
    specs = [(header.format(unit=unit.replace(" ", "\n"), flops=unit.split()[0]), *rest) for header, *rest in COLUMNS]
    columns: list[Column] = []
    for lane, table in enumerate(tables):
        accuracy = table["top1"].map("{:.2f}".format).where(table["top1"].notna(), "–")
        shown = table.assign(
            accuracy=accuracy.where(table["top1"].notna() | ~table["reference"]),
            gmacs=table["gmacs"] * factor,
            paper_gflops=table["paper_gflops"] * factor,
        )
        place = 0.0 if len(tables) == 1 else (-0.19, 0.19)[lane]
        columns += columns_of(shown, specs, "faint" if lane else "number", place)
    headers = [header for header, *_ in specs]
    return sorted(columns, key=lambda column: headers.index(column.header))


def _means(table: pd.DataFrame, name: str) -> str:
    run = table[table["top1"].notna()]
    if run.empty:
        words = "not run yet"
    elif run["source"].iloc[0]:
        words = f"{run['source'].iloc[0]} as published (mean over 3 seeds where ± is given, otherwise one run)"
    else:
        words = seeds_words(run["n"])
    return f"{name}: {words}" if name else words


def paper_regime(steps: Sequence[Step]) -> str:
    """Return which of the paper's runs the steps are compared with."""
    regime = steps[0].composed.regime.name
    return f"regime {SCALED_FROM.get(regime, regime)} on ImageNet-1K, for orientation"


def deltas_chart(
    table: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    paper: str = "",
    agreement: str = "",
    test: GapTest = DEFAULT_TEST,
    width: int = WIDTH,
) -> alt.VConcatChart:
    """Return a chart with one row per step that has a parent.

    ``table`` is a ``step_table`` of ``test``: label, section, ``delta`` with ``delta_low`` to ``delta_high`` in
    percentage points, ``delta_n`` seeds, the corrected p-value, ``outcome`` and ``paper_delta``; ``paper`` names the
    runs of the latter, and ``agreement`` is a sentence on them. Raises RequestError if no step has a gap.
    """
    table = table[table["parent"].notna()].reset_index(drop=True)
    known = table["delta"].notna()
    if not known.any():
        raise RequestError("no figure to draw: no step and the step before it have both been run yet")
    ends = zip(table["delta_low"], table["delta_high"], strict=True)
    intervals = [None if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends]
    table = table.assign(interval=pd.Series(intervals, dtype=object), p=table[f"delta_p_{test.correction}"])
    name = f"({CORRECTION_NAMES[test.correction]})"
    columns = columns_of(table, [(header.format(correction=name), *rest) for header, *rest in DELTA_COLUMNS])
    rows = Rows.of(table, 26, width, columns)
    axis = "change of top-1 accuracy (percentage points)"
    marks = step_gaps(rows, table, axis, "paper_delta", DELTA_TOOLTIP, test)
    parts = {
        "Δ: change from the adopted step before.": True,
        f"Lines: 95 % intervals, cut off at the edges of the axis. {test_words(table, test)}": table["p"].notna().any(),
        "Not tested: one seed, or seeds without spread.": (known & table["delta_low"].isna()).any(),
        "–: not run yet.": not known.all(),
        f"Diamonds: the paper's Δ, {paper}.": paper and table["paper_delta"].notna().any(),
        agreement: agreement,
    }
    return framed(rows.chart(*marks), title, subtitle, sentences(parts), rows.total_width)
