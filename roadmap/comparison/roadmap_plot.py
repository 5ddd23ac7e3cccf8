"""The roadmap figure, after Figure 2 of arXiv:2201.03545: one bar per step from top to bottom, numbers at the right.

With two regimes each row has two bars, the larger regime's below in grey.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.comparison.groups import seeds_words
from roadmap.comparison.step_table import mac_unit
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, sentences, tooltips
from roadmap.plots.rows import Column, Rows, columns_of, diamonds, format_cell
from roadmap.plots.theme import BLUE, GREY, VERMILLION, WIDTH

ADOPTED, REJECTED = "adopted", "tried, not adopted"
COLUMNS = (
    ("top-1\n(%)", "accuracy", "{}"),
    ("± std", "top1_std", "± {:.2f}"),
    ("Δ", "delta", "{:+.2f}"),
    ("seeds", "seeds", "{:.0f}"),
    ("{unit}", "gmacs", "{:.2f}"),
    ("paper\ntop-1", "paper_top1", "{:.2f}", "faint"),
    ("paper\n± std", "paper_top1_std", "± {:.2f}", "faint"),
    ("paper\n{flops}", "paper_gflops", "{:.2f}", "faint"),
)
_NUMBERS = {"top1": "top-1 (%)", "top1_std": "± std", "delta": "Δ", "n": "seeds", "gmacs": "GMACs"}
_SHOWN = ["step", "label", "kind", "reference", *_NUMBERS, "paper_top1", "drawn", "low", "high"]
XAxis = Callable[[str], alt.X]


def roadmap_chart(
    table: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    behind: pd.DataFrame | None = None,
    names: Sequence[str] = (),
    width: int = WIDTH,
) -> alt.VConcatChart:
    """Return a chart with one bar per row of ``table``, in its order.

    The columns are step, label, section, adopted, ``n`` seeds, ``top1`` and ``top1_std`` in percent, ``gmacs`` ×10⁹,
    and ``paper_top1``, ``paper_top1_std``, ``paper_gflops``, each NaN if unknown. Optional columns: ``delta``;
    ``source`` names the table of the paper that a row's own numbers are from, empty for runs; ``reference`` is true for
    a network that is not a step, drawn with a line from top to bottom. ``behind`` is a second regime's table of the
    same rows; ``names`` are the two regimes'. Raises RequestError if no row has an accuracy.
    """
    tables = [_prepared(one) for one in ([table] if behind is None else [table, behind])]
    if all(one.loc[~one["reference"], "top1"].isna().all() for one in tables):
        raise RequestError("no figure to draw: no step has an accuracy yet")
    mixed = not all(one["source"].iloc[0] for one in tables)
    for lane, one in enumerate(tables):
        source = one["source"].iloc[0] if names and mixed else ""
        regime = ", ".join(filter(None, (names[lane] if names else "", source)))
        one["kind"] = np.where(one["adopted"], ADOPTED, REJECTED) + (f": {regime}" if regime else "")
        one["kind"] = one["kind"].where(~one["reference"], one["name"] + " (the paper's)")
        one["color"] = np.where(one["reference"], VERMILLION, (BLUE, GREY)[lane])
    first = tables[0]
    rows = Rows.of(first, 24 if behind is None else 34, width, _columns(tables))
    x = partial(_axis, _domain(tables))
    shown = pd.concat(tables)
    shown = shown[shown["drawn"].notna()].drop_duplicates("kind", keep="last")
    shown = shown.sort_values(["reference", "adopted"], ascending=[True, False], kind="stable")
    legend = alt.Legend(columns=len(shown) if behind is None else 2, symbolType="square")
    stroke = alt.Scale(domain=shown["kind"].tolist(), range=shown["color"].tolist())
    fill = alt.Scale(domain=stroke.domain, range=[*shown["color"].where(shown["adopted"], "transparent")])
    colors = {"fill": alt.Fill("kind:N", scale=fill, legend=legend), "stroke": alt.Stroke("kind:N", scale=stroke)}
    layers = [layer for lane, one in enumerate(tables) for layer in _layers(rows, one, lane, len(tables), x, colors)]
    return framed(rows.chart(*layers), title, subtitle, _caption(tables, names), rows.total_width)


def _prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its optional columns, and deviations only over several seeds."""
    if table.empty:
        raise RequestError("no figure to draw: no step has an accuracy yet")
    optional: dict[str, Any] = {"source": "", "reference": False, "delta": float("nan"), "name": table["label"]}
    table = table.assign(**{name: value for name, value in optional.items() if name not in table})
    spread = table["top1_std"].where((table["n"] > 1) & table["top1"].notna())
    flags = {name: table[name].astype(bool) for name in ("reference", "adopted")}
    table = table.assign(source=table["source"].fillna(""), top1_std=spread, **flags)
    # a reference without runs is drawn from the paper
    table["drawn"] = table["top1"].where(~table["reference"] | table["top1"].notna(), table["paper_top1"])
    ends = {"low": (table["drawn"] - spread).clip(lower=0), "high": (table["drawn"] + spread).clip(upper=100)}
    return table.assign(**ends, row=range(len(table))).reset_index(drop=True)


def _domain(tables: Sequence[pd.DataFrame]) -> list[float]:
    """The axis in percent, cropped to what is drawn with the shortest bar still visible."""
    ends = pd.concat(tables)[["low", "high", "drawn", "paper_top1"]]
    lowest, highest = ends.min().min(), ends.max().max()
    span = max(highest - lowest, 1.0)
    return [max(highest - 1.15 * span, 0.0), min(max(highest + 0.04 * span, 1.0), 100.0)]


def _axis(domain: list[float], column: str) -> alt.X:
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    return alt.X(f"{column}:Q", scale=scale, title="top-1 accuracy (%)", axis=alt.Axis(tickCount=7, format="~f"))


def _layers(
    rows: Rows, table: pd.DataFrame, lane: int, lanes: int, x: XAxis, colors: dict[str, Any]
) -> list[alt.Chart]:
    """Bars from the left edge, whiskers of one standard deviation, the paper's values as diamonds, reference lines."""
    top = table["row"] - 0.36 + 0.37 * lane
    bottom = top + (0.72 if lanes == 1 else 0.35)
    base = alt.Chart(inline(table[_SHOWN].assign(top=top, bottom=bottom, middle=(top + bottom) / 2)))
    tooltip = tooltips({"label": "change", "kind": "kind"}, _NUMBERS, ".4~g")
    bars = base.transform_filter("datum.drawn != null").mark_rect(strokeWidth=1.2)
    whiskers = base.transform_filter("datum.top1_std != null").mark_rule(style="interval")
    layers = [
        bars.encode(x=x("drawn"), x2=alt.value(0), y=rows.y("top"), y2="bottom:Q", tooltip=tooltip, **colors),
        whiskers.encode(x=x("low"), x2="high:Q", y=rows.y("middle")),
    ]
    if table["reference"].any():
        lines = base.transform_filter("datum.reference").mark_rule(strokeDash=[5, 3] if lane == 0 else [1.5, 3])
        layers.append(lines.encode(x=x("drawn"), color=alt.value(VERMILLION)))
    if table.loc[~table["reference"], "paper_top1"].notna().any():
        steps = base.transform_filter("!datum.reference")
        layers.append(diamonds(rows, steps, "paper_top1", "bottom", x("paper_top1")))
    return layers


def _columns(tables: Sequence[pd.DataFrame]) -> list[Column]:
    """The numbers at the right, one line per regime."""
    together = pd.concat(tables)
    factor, unit = mac_unit(together)
    unit = unit.replace(" ", "\n")
    counted = [
        table["n"].where(table["top1"].notna() & ~table["reference"] & (table["source"] == "")) for table in tables
    ]
    differ = pd.concat(counted).nunique() > 1
    specs = [(header.format(unit=unit, flops=unit.split()[0]), *rest) for header, *rest in COLUMNS]
    columns: list[Column] = []
    for table, seeds, lane in zip(tables, counted, (0.0,) if len(tables) == 1 else (-0.19, 0.19), strict=True):
        missing = np.where(table["reference"], "", "–")
        shown = table.assign(
            accuracy=[format_cell(*cell) for cell in zip(table["top1"], ["{:.2f}"] * len(table), missing, strict=True)],
            seeds=seeds if differ else None,
            gmacs=table["gmacs"] * factor,
            paper_gflops=table["paper_gflops"] * factor,
        )
        columns += columns_of(shown, specs, "number" if lane <= 0 else "faint", lane)
    headers = [header for header, *_ in specs]
    return sorted(columns, key=lambda column: headers.index(column.header))


def _caption(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> str:
    steps = [table[~table["reference"]] for table in tables]
    published = [bool((table["source"] != "").any()) for table in steps]
    missing = {
        "not published" if given else "not run yet"
        for given, table in zip(published, steps, strict=True)
        if table["top1"].isna().any()
    }
    bars = [_means(steps[0])] if len(steps) == 1 else [f"{n}: {_means(t)}" for n, t in zip(names, steps, strict=True)]
    parts = {
        f"Bars: {'; '.join(bars)}.": True,
        "Whiskers: standard deviation.": any(table["top1_std"].notna().any() for table in steps),
        "Diamonds: the paper's values.": any(table["paper_top1"].notna().any() for table in steps),
        "The axis does not start at 0.": pd.concat(tables)["drawn"].min() > 10,
        f"–: {' or '.join(sorted(missing))}.": missing,
        "Swin: the paper's numbers.": any(table["reference"].any() for table in tables),
        f"FLOPs: multiply-accumulates (MACs) per image{', as published' if all(published) else ''}.": True,
    }
    return sentences(parts)


def _means(table: pd.DataFrame) -> str:
    run = table[table["top1"].notna()]
    if run.empty:
        return "not run yet"
    if (run["source"] != "").any():
        seeds = "mean over 3 seeds where ± is given, otherwise one run" if run["top1_std"].notna().any() else "one run"
        return f"{run['source'].iloc[0]} as published ({seeds})"
    return "one seed, no error bars" if run["n"].max() == 1 else seeds_words(run["n"])
