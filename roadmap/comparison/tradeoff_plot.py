"""Accuracy against a cost: one point per group of runs, and the Pareto front as a figure and a table."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from roadmap.bench.reading import with_speeds
from roadmap.comparison.groups import group_names, seeds_words, summarise
from roadmap.comparison.step_table import data_words, held_out, mac_unit
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed, mean_and_std, number
from roadmap.plots.charts import BLUE, GREY, SKY, SMALL, framed, inline, padded, points, tooltips
from roadmap.runs.identity import check_comparable


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is plotted against, of a design, run or bench; ``better`` is -1 if less is better."""

    column: str
    label: str
    title: str
    source: str
    better: int = -1


SPEED = "bench_speed"  # the column of what a bench measured
COSTS = {
    "gmacs": CostAxis("gmacs", "{unit} per image", "FLOPs", "design"),
    "params": CostAxis("params_m", "parameters (millions)", "parameters", "design"),
    "throughput": CostAxis("images_per_second", "images per second in training", "training throughput", "run", 1),
    "memory": CostAxis("peak_memory_gb", "peak memory in training (GiB)", "memory", "run"),
    "time": CostAxis("train_seconds", "training time (s)", "training time", "run"),
    "inference": CostAxis(SPEED, "images per second in inference", "inference throughput", "bench", 1),
    "training": CostAxis(SPEED, "images per second in training", "training throughput", "bench", 1),
    "latency": CostAxis(SPEED, "milliseconds per image", "latency", "bench"),
}
FRONT, DOMINATED = "on the Pareto front", "dominated"
MARKS = {FRONT: ("circle", BLUE), DOMINATED: ("square", GREY)}
WIDTH, HEIGHT = 680, 420
MAX_NUMBERED = 40  # designs; of more, only those on the front have a number


def draw_tradeoff(runs: pd.DataFrame, x: str, benches: pd.DataFrame | None = None) -> alt.VConcatChart:
    """Return the accuracy of finished ``runs`` against one of ``COSTS``, averaged over seeds.

    ``benches``, a table of ``load_bench``, has what was measured apart from training. Raises RequestError for an
    unknown cost, for runs whose accuracies cannot be compared, for a measured cost of runs or benches on different
    devices, and for benches of other networks.
    """
    known = [name for name, axis in COSTS.items() if (axis.source == "bench") == (benches is not None)]
    if x not in known:
        hint = ", or name a record of `roadmap bench` with --bench" if x in COSTS and benches is None else ""
        raise RequestError(f"unknown x '{x}' (choose {listed(known)}{hint})")
    cost = COSTS[x]
    check_comparable(runs)
    words = [data_words(runs)]
    table = summarise(runs)
    if benches is not None:
        unit = "milliseconds" if x == "latency" else "images_per_second"
        table, measured = with_speeds(table, benches, f"{x}_{unit}", SPEED)
        words.append(measured)
    elif cost.source == "run":
        machines = sorted(set(runs["processes"].fillna(1).map("{:.0f} x ".format) + runs["device"].astype(str)))
        if len(machines) > 1:
            raise RequestError(
                f"these runs were measured on {' and '.join(machines)}, whose {cost.title} is no comparison; "
                "name folders of one device only, or choose --x gmacs or params"
            )
        words.append(f"measured on {machines[0]}")
    known_cost = table["top1"].notna() & table[cost.column].notna()
    if not known_cost.all():
        words.append(f"{(~known_cost).sum()} of {len(table)} designs left out, without {cost.title}")
    table = table[known_cost].reset_index(drop=True)
    if not len(table):
        raise RequestError(f"none of these runs says its {cost.title}; choose another x of {listed(known)}")
    title, subtitle = f"Accuracy against {cost.title}", "; ".join([*words, "accuracy after the last epoch"])
    return tradeoff_chart(table.assign(label=group_names(table)), cost, title=title, subtitle=subtitle)


def on_front(table: pd.DataFrame, cost: CostAxis) -> pd.Series:
    """Whether no other row is at least as good in ``top1`` and in ``cost``, and better in one of them."""
    price, top1 = table[cost.column], table["top1"]
    best = top1.groupby(price).max().sort_index(ascending=cost.better < 0)
    cheaper = best.cummax().shift(fill_value=-np.inf)  # the best of those with a better cost
    return (top1 == price.map(best)) & (top1 > price.map(cheaper))


def tradeoff_chart(
    table: pd.DataFrame, cost: CostAxis, *, title: str, subtitle: str, notes: str = "", front_only: bool = False
) -> alt.VConcatChart:
    """Return a chart with a point per row of ``table``: label, ``n`` seeds, ``top1``, ``top1_std``, ``cost.column``.

    Points have numbers, which the caption explains; with ``front_only`` only those on the Pareto front.
    """
    factor, unit = mac_unit(table) if cost.column == "gmacs" else (1.0, "")
    every = len(table) <= MAX_NUMBERED and not front_only
    table = table if every else table.sort_values(cost.column, kind="stable")
    front = on_front(table, cost)
    shown = front | every
    spread = table["top1_std"].where(shown & (table["n"] > 1))
    table = table.assign(
        x=table[cost.column].astype(float) * factor,
        mark=np.where(front, FRONT, DOMINATED),
        point=numbers(shown),
        name=table["label"],
        low=table["top1"] - spread,
        high=table["top1"] + spread,
    )
    names = [f"{row['point']}\u00a0{row['name']}" for row in table[shown].to_dict("records")]
    whiskers = "; whiskers: standard deviation of the accuracy" if spread.notna().any() else ""
    better = "more" if cost.better > 0 else "fewer" if cost.source == "design" else "less"
    caption = (
        f"{(chr(10) if front_only else ' · ').join(names)}\n"
        f"Points: {seeds_words(table['n'])}{whiskers}. On the front: no other design is as accurate with {better} "
        f"{cost.title}, by the means alone. {notes}"
    )
    layers = _layers(table, cost, cost.label.format(unit=unit))
    return framed(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT), title, subtitle, caption, WIDTH + 50)


def numbers(shown: pd.Series) -> pd.Series:
    """The rows that are true, numbered from 1, and empty texts for the others."""
    return shown.cumsum().astype(str).where(shown, "")


def _layers(table: pd.DataFrame, cost: CostAxis, title_x: str) -> list[alt.Chart]:
    ends = table[["low", "high", "top1"]].stack()
    (low, high), _ = padded(ends, 0.06)
    domain, log = padded(table["x"], 0.08, 1.4)
    scale = alt.Scale(domain=domain, type="log" if log else "linear", nice=False, zero=alt.Undefined if log else False)
    x = alt.X("x:Q", scale=scale, title=title_x, axis=alt.Axis(tickCount=8))

    def y(column: str) -> alt.Y:
        scale = alt.Scale(domain=[low, high], nice=False, zero=False)
        return alt.Y(f"{column}:Q", scale=scale, title="top-1 accuracy (%)")

    columns = ["name", "point", "x", "top1", "low", "high", "mark", "n"]
    base = alt.Chart(inline(table[columns].sort_values("mark", kind="stable"))).encode(x=x)  # the front on top
    kinds = {mark: form for mark, form in MARKS.items() if (table["mark"] == mark).any()}
    steps = base.transform_filter(f"datum.mark == '{FRONT}'").mark_line(
        color=SKY, strokeWidth=1.3, interpolate="step-after" if cost.better < 0 else "step-before"
    )
    about = {"x": title_x, "top1": "top-1 (%)", "n": "seeds"}
    tooltip = tooltips({"name": "design", "mark": "among these"}, about, ".4~g")
    texts = base.mark_text(style="label", fontSize=SMALL, align="left", dx=6, dy=-8)
    return [
        steps.encode(y=y("top1")),
        base.transform_filter("datum.low != null").mark_rule(style="interval").encode(y=y("low"), y2="high:Q"),
        points(base, kinds, "mark", y=y("top1"), tooltip=tooltip),
        texts.encode(y=y("top1"), text="point:N"),
    ]


@dataclass(frozen=True)
class Front:
    """``table`` has one row per design, the cheapest first; ``point`` is the number of a design on the front, or "".

    Accuracies are in percent.
    """

    table: pd.DataFrame
    cost: CostAxis
    subtitle: str
    notes: list[str]


def front(runs: pd.DataFrame, x: str = "gmacs") -> Front:
    """The Pareto front of finished ``runs`` by their means over seeds, in accuracy and ``gmacs`` or ``params``.

    Raises RequestError for runs that cannot be compared, including those of several recipes.
    """
    if x not in COSTS or COSTS[x].source != "design":
        raise RequestError(f"unknown x '{x}' of a Pareto front (choose gmacs or params)")
    cost = COSTS[x]
    finished = runs[(runs["status"] == "finished") & runs["top1"].notna() & runs[cost.column].notna()]
    if not len(finished):
        raise RequestError("no finished run in these folders")
    check_comparable(finished, one_recipe=True)
    table = summarise(finished)
    # means of the same accuracies in another order differ in the last bits
    table["top1"] = table["top1"].round(9)
    table = table.sort_values([cost.column, "top1"], ascending=[True, False], kind="stable").reset_index(drop=True)
    table["point"] = numbers(on_front(table, cost))
    members, many = int((table["point"] != "").sum()), len(table)
    notes = [f"front: {members} of {many} designs, by means alone: no other design is as accurate at lower cost"]
    if many > 1:
        notes.append(f"caution: as the best of {many} noisy ones, the front's accuracies are biased upward")
        if not held_out(finished["definition"].iloc[0]):
            notes[-1] += "; they are on the test images, which must not be used to choose a design"
    if excluded := len(runs) - len(finished):
        notes.append(f"not included: {excluded} run{'s' * (excluded > 1)} pruned, failed or in progress")
    words = f"{data_words(finished)}, {finished['epochs'].iloc[0]:g} epochs; accuracy after the last epoch"
    return Front(table, cost, words, notes)


def draw_pareto(found: Front) -> alt.VConcatChart:
    """Return the front among all designs, with numbers that the caption explains."""
    table = found.table.assign(label=found.table["variant"])
    title, notes = (
        f"Accuracy against {found.cost.title}: the Pareto front",
        " ".join(f"{note[0].upper()}{note[1:]}." for note in found.notes[1:]),
    )
    return tradeoff_chart(table, found.cost, title=title, subtitle=found.subtitle, notes=notes, front_only=True)


def text(found: Front) -> str:
    """The front's table for a terminal, and the notes."""
    factor, unit = mac_unit(found.table)
    rows = [
        [
            row["point"],
            mean_and_std(row["top1"], row["top1_std"]),
            str(row["n"]),
            number(row["gmacs"] * factor),
            number(row["params_m"]),
            row["variant"],
        ]
        for row in found.table[found.table["point"] != ""].to_dict("records")
    ]
    header = ["", "top-1 (%)", "n", unit, "params (M)", "variant"]
    return "\n".join([found.subtitle, aligned(header, rows), *found.notes])
