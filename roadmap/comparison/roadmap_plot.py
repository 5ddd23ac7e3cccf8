"""The roadmap figure, after Figure 2 of arXiv:2201.03545: one bar per step from top to bottom, numbers at the right.

With two regimes each row has two bars, the larger regime's below in grey.
"""

from collections.abc import Callable, Sequence
from functools import partial

import altair as alt
import pandas as pd

from roadmap.comparison.step_table import mac_unit
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, tooltips
from roadmap.plots.rows import Column, Rows, cells, diamonds, one_line
from roadmap.plots.theme import BLUE, GREY, VERMILLION, WIDTH

_SHOWN = ["label", "kind", "reference", "n", "top1", "top1_std", "delta", "gmacs", "paper_top1", "drawn", "low", "high"]
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
    colors: dict[str, tuple[str, bool]] = {}
    for lane, (one, color) in enumerate(zip(tables, (BLUE, GREY), strict=False)):
        name = names[lane] if names else ""
        source = one["source"].iloc[0] if names and not all(each["source"].iloc[0] for each in tables) else ""
        one["kind"] = _kinds(one, ", ".join(filter(None, (name, source))))
        colors |= _colors(one, color)
    first = tables[0]
    rows = Rows(
        one_line(first["label"]), one_line(first["section"]), 24 if behind is None else 34, width, _columns(tables)
    )
    x = partial(_axis, _domain(tables))
    layers = [layer for lane, one in enumerate(tables) for layer in _layers(rows, one, lane, len(tables), x, colors)]
    return framed(rows.chart(*layers), title, subtitle, _caption(tables, names), rows.total_width)


def _prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its optional columns, and deviations only over several seeds."""
    if table.empty:
        raise RequestError("no figure to draw: no step has an accuracy yet")
    spread = table["top1_std"].where((table["n"] > 1) & table["top1"].notna())
    source = table["source"].fillna("") if "source" in table else ""
    reference = table["reference"].astype(bool) if "reference" in table else False
    table = table.assign(source=source, reference=reference, top1_std=spread, adopted=table["adopted"].astype(bool))
    if "delta" not in table:
        table["delta"] = float("nan")
    # a reference without runs is drawn from the paper
    table["drawn"] = table["top1"].where(~table["reference"] | table["top1"].notna(), table["paper_top1"])
    ends = {"low": (table["drawn"] - spread).clip(lower=0), "high": (table["drawn"] + spread).clip(upper=100)}
    return table.assign(**ends, row=range(len(table))).reset_index(drop=True)


def _kinds(table: pd.DataFrame, regime: str) -> list[str]:
    adopted = f"adopted: {regime}" if regime else "adopted"
    rejected = f"tried, not adopted: {regime}" if regime else "tried, not adopted"
    flags = zip(table["reference"], table["adopted"], table["label"], strict=True)
    if "name" in table:
        flags = zip(table["reference"], table["adopted"], table["name"], strict=True)
    return [f"{name} (the paper's)" if other else adopted if kept else rejected for other, kept, name in flags]


def _colors(table: pd.DataFrame, color: str) -> dict[str, tuple[str, bool]]:
    """Kind → colour of its bars, and whether they are filled."""
    drawn = table[table["drawn"].notna()]
    return {
        kind: (VERMILLION if reference else color, bool(adopted))
        for kind, reference, adopted in zip(drawn["kind"], drawn["reference"], drawn["adopted"], strict=True)
    }


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
    rows: Rows, table: pd.DataFrame, lane: int, lanes: int, x: XAxis, colors: dict[str, tuple[str, bool]]
) -> list[alt.Chart]:
    """Bars from the left edge, whiskers of one standard deviation, the paper's values as diamonds, reference lines."""
    top = table["row"] - 0.36 + 0.37 * lane
    bottom = top + (0.72 if lanes == 1 else 0.35)
    shown = table[_SHOWN].assign(top=top, bottom=bottom, middle=(top + bottom) / 2)
    base = alt.Chart(inline(shown))
    kinds = sorted(colors, key=lambda kind: (colors[kind][0] == VERMILLION, not colors[kind][1]))
    bars = [colors[kind] for kind in kinds]
    fill = alt.Scale(domain=kinds, range=[color if filled else "transparent" for color, filled in bars])
    stroke = alt.Scale(domain=kinds, range=[color for color, _ in bars])
    legend = alt.Legend(columns=len(kinds) if lanes == 1 else 2, symbolType="square")
    numbers = {"top1": "top-1 (%)", "top1_std": "± std", "delta": "Δ", "n": "seeds", "gmacs": "GMACs"}
    rectangles = base.transform_filter("datum.drawn != null").mark_rect(strokeWidth=1.2)
    layers = [
        rectangles.encode(
            x=x("drawn"),
            x2=alt.value(0),
            y=rows.y("top"),
            y2="bottom:Q",
            fill=alt.Fill("kind:N", scale=fill, legend=legend),
            stroke=alt.Stroke("kind:N", scale=stroke),
            tooltip=tooltips({"label": "change", "kind": "kind"}, numbers, ".4~g"),
        ),
        base.transform_filter("datum.top1_std != null")
        .mark_rule(style="interval")
        .encode(x=x("low"), x2="high:Q", y=rows.y("middle")),
    ]
    if table["reference"].any():
        lines = base.transform_filter("datum.reference").mark_rule(strokeDash=[5, 3] if lane == 0 else [1.5, 3])
        layers.append(lines.encode(x=x("drawn"), color=alt.value(VERMILLION)))
    published = table["paper_top1"].where(~table["reference"])
    if published.notna().any():
        layers.append(
            diamonds(rows, base.transform_filter("!datum.reference"), "paper_top1", "bottom", x("paper_top1"))
        )
    return layers


def _columns(tables: Sequence[pd.DataFrame]) -> list[Column]:
    """The numbers at the right, one line per regime, without empty columns."""
    together = pd.concat(tables)
    factor, unit = mac_unit(together)
    unit = unit.replace(" ", "\n")
    counted = [
        table["n"].where(table["top1"].notna() & ~table["reference"] & (table["source"] == "")) for table in tables
    ]
    differ = pd.concat(counted).nunique() > 1
    columns = []
    for table, seeds, lane in zip(tables, counted, (0.0,) if len(tables) == 1 else (-0.19, 0.19), strict=True):
        own, paper = ("number" if lane <= 0 else "faint"), "faint"
        accuracy = [
            cell or ("" if reference else "–")
            for cell, reference in zip(cells(table["top1"]), table["reference"], strict=True)
        ]
        columns += [
            Column("top-1\n(%)", accuracy, own, lane),
            Column("± std", cells(table["top1_std"], "± {:.2f}"), own, lane),
            Column("Δ", cells(table["delta"], "{:+.2f}"), own, lane),
            Column("seeds", cells(seeds, "{:.0f}") if differ else [""] * len(table), own, lane),
            Column(unit, cells(table["gmacs"] * factor), own, lane),
            Column("paper\ntop-1", cells(table["paper_top1"]), paper, lane),
            Column("paper\n± std", cells(table["paper_top1_std"], "± {:.2f}"), paper, lane),
            Column(f"paper\n{unit.split()[0]}", cells(table["paper_gflops"] * factor), paper, lane),
        ]
    filled = {column.header for column in columns if any(column.cells)}
    return [column for column in columns if column.header in filled]


def _caption(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> str:
    steps = [table[~table["reference"]] for table in tables]
    published = [bool((table["source"] != "").any()) for table in steps]
    missing = {
        "not published" if given else "not run yet"
        for given, table in zip(published, steps, strict=True)
        if table["top1"].isna().any()
    }
    bars = [_means(steps[0])] if len(steps) == 1 else [f"{n}: {_means(t)}" for n, t in zip(names, steps, strict=True)]
    parts = [
        f"Bars: {'; '.join(bars)}.",
        "Whiskers: standard deviation." if any(table["top1_std"].notna().any() for table in steps) else "",
        "Diamonds: the paper's values." if any(table["paper_top1"].notna().any() for table in steps) else "",
        "The axis does not start at 0." if pd.concat(tables)["drawn"].min() > 10 else "",
        f"–: {' or '.join(sorted(missing))}." if missing else "",
        "Swin: the paper's numbers." if any(table["reference"].any() for table in tables) else "",
        f"FLOPs: multiply-accumulates (MACs) per image{', as published' if all(published) else ''}.",
    ]
    return " ".join(filter(None, parts))


def _means(table: pd.DataFrame) -> str:
    run = table[table["top1"].notna()]
    if run.empty:
        return "not run yet"
    if (run["source"] != "").any():
        seeds = "mean over 3 seeds where ± is given, otherwise one run" if run["top1_std"].notna().any() else "one run"
        return f"{run['source'].iloc[0]} as published ({seeds})"
    low, high = run["n"].min(), run["n"].max()
    if high == 1:
        return "one seed, no error bars"
    return f"mean over {low} to {high} seeds" if low < high else f"mean over {high} seeds"
