"""Accuracy against a cost: one point per group of runs, and the Pareto front."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from roadmap.bench.reading import with_speeds
from roadmap.comparison.groups import group_names, seeds_words, summarise
from roadmap.comparison.step_table import data_words, mac_unit
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.plots.charts import framed, inline, padded, points, text_width, tooltips
from roadmap.plots.labels import leader_ends, place_labels
from roadmap.plots.theme import BLUE, GREY, SKY, SMALL
from roadmap.runs.identity import check_comparable


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is plotted against; ``better`` is -1 if less is better."""

    column: str
    label: str
    title: str
    better: int = -1
    measured: bool = True


COSTS = {
    "gmacs": CostAxis("gmacs", "{unit} per image", "FLOPs", measured=False),
    "params": CostAxis("params_m", "parameters (millions)", "parameters", measured=False),
    "throughput": CostAxis("images_per_second", "images per second in training", "training throughput", better=1),
    "memory": CostAxis("peak_memory_gb", "peak memory in training (GiB)", "memory"),
    "time": CostAxis("train_seconds", "training time (s)", "training time"),
}
SPEED = "bench_speed"  # the column of what a bench measured
BENCH_COSTS = {
    "inference": CostAxis(SPEED, "images per second in inference", "inference throughput", better=1),
    "training": CostAxis(SPEED, "images per second in training", "training throughput", better=1),
    "latency": CostAxis(SPEED, "milliseconds per image", "latency"),
}
FRONT, MAYBE, BEATEN = "on the Pareto front", "dominated within noise", "dominated"
MARKS = {FRONT: ("circle", BLUE), MAYBE: ("diamond", SKY), BEATEN: ("square", GREY)}
WIDTH, HEIGHT = 680, 420


def draw_tradeoff(runs: pd.DataFrame, x: str, benches: pd.DataFrame | None = None) -> alt.VConcatChart:
    """Return the accuracy of finished ``runs`` against a cost, averaged over seeds.

    ``x`` is one of ``COSTS``, or given a table of ``load_bench`` one of ``BENCH_COSTS``, measured apart from training.
    Raises RequestError for an unknown cost, for runs whose accuracies cannot be compared, for a measured cost of
    runs or benches on different devices, and for benches of other networks.
    """
    costs = COSTS if benches is None else BENCH_COSTS
    if x not in costs:
        if x in BENCH_COSTS:
            raise RequestError(f"--x {x} is what `roadmap bench` measures; name its record by --bench")
        raise RequestError(f"unknown x '{x}' (choose {listed(costs)})")
    cost = costs[x]
    runs = runs[runs["status"] == "finished"]
    if not len(runs):
        raise RequestError("no finished run in these folders")
    check_comparable(runs)
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
    return tradeoff_chart(table, cost, title=title, subtitle=subtitle)


def _measured_on(runs: pd.DataFrame, x: str) -> str:
    """The device that all runs were measured on; RequestError if there are several."""
    pairs = zip(runs["device"], runs["processes"].fillna(1).astype(int), strict=True)
    machines = sorted({f"{processes} x {device}" if processes > 1 else str(device) for device, processes in pairs})
    if len(machines) > 1:
        raise RequestError(
            f"these runs were measured on {' and '.join(machines)}, whose {COSTS[x].title} is no comparison; "
            "name folders of one device only, or choose --x gmacs or params"
        )
    whole = ", where memory is the whole process's" if x == "memory" and machines[0].endswith("cpu") else ""
    return f"measured on {machines[0]}{whole}"


def pareto(x: np.ndarray, y: np.ndarray, better: int) -> np.ndarray:
    """Which points are not dominated by another that is at least as good in both and better in one.

    ``better`` is -1 if less x is better.
    """
    gain = np.stack([better * x, y], axis=1)
    at_least = np.all(gain[None] >= gain[:, None], axis=2)
    beaten = at_least & np.any(gain[None] > gain[:, None], axis=2)
    return np.logical_not(np.any(beaten, axis=1))


def tradeoff_chart(table: pd.DataFrame, cost: CostAxis, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with a point per row of ``table``: label, ``n`` seeds, ``top1``, ``top1_std``, ``cost.column``."""
    front = pareto(table[cost.column].to_numpy(float), table["top1"].to_numpy(), cost.better)
    spread = table["top1_std"].where(table["n"] > 1)
    table = table.assign(mark=np.where(front, FRONT, BEATEN), low=table["top1"] - spread, high=table["top1"] + spread)
    better = "more" if cost.better > 0 else "less"
    caption = (
        f"Points: {seeds_words(table['n'])}"
        + ("; whiskers: standard deviation of the accuracy" if spread.notna().any() else "")
        + f". On the front: no other design is as accurate with {better} {cost.title}, by the means alone."
    )
    return points_chart(table.assign(name=table["label"]), cost, title=title, subtitle=subtitle, caption=caption)


def points_chart(table: pd.DataFrame, cost: CostAxis, *, title: str, subtitle: str, caption: str) -> alt.VConcatChart:
    """Return a chart with a point per row of ``table``: ``top1`` and ``cost.column``, its ``mark`` of ``MARKS``, its
    ``name`` in the tooltip, its ``label``, empty for none, and a whisker from ``low`` to ``high``, NaN for none.
    """
    factor, unit = mac_unit(table) if cost.column == "gmacs" else (1.0, "")
    table = table.assign(x=table[cost.column].astype(float) * factor)
    ends = table[["low", "high", "top1"]]
    room = 0.06 * max(ends.max().max() - ends.min().min(), 1.0)
    y = [max(ends.min().min() - room, 0.0), ends.max().max() + room]
    x, log = padded(table["x"], 0.08, 1.4)
    scales = (
        alt.Scale(domain=x, type="log" if log else "linear", nice=False, zero=alt.Undefined if log else False),
        alt.Scale(domain=y, nice=False, zero=False),
    )
    labels = _labels(table, x, y, log, cost.better)
    if missing := int((table["label"] != "").sum()) - len(labels):
        caption += f" {missing} label{'s' * (missing > 1)} left out for lack of room."
    title_x = cost.label.format(unit=unit)
    chart = alt.layer(*_layers(table, labels, cost, scales, title_x)).properties(width=WIDTH, height=HEIGHT)
    return framed(chart, title, subtitle, caption, WIDTH + 50)


def _labels(table: pd.DataFrame, x: list[float], y: list[float], log: bool, better: int) -> pd.DataFrame:
    """Each label that has room: its text, its place and the end of its line, in the units of the axes."""
    across = np.log if log else np.asarray
    left, right = across(np.array(x))

    def pixels(values: pd.Series) -> np.ndarray:
        return np.stack(
            [(across(table["x"]) - left) / (right - left) * WIDTH, (y[1] - values) / (y[1] - y[0]) * HEIGHT], 1
        )

    def units(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = left + points[:, 0] / WIDTH * (right - left)
        return np.exp(values) if log else values, y[1] - points[:, 1] / HEIGHT * (y[1] - y[0])

    # those on the front choose their places first
    table = table.sort_values(
        ["label", "mark"], key=lambda c: c == "" if c.name == "label" else c != FRONT, kind="stable"
    )
    points, tops, bottoms = (pixels(table[name].fillna(table["top1"])) for name in ("top1", "high", "low"))
    obstacles = np.hstack([np.minimum(points, tops) - 5, np.maximum(points, bottoms) + 5])
    obstacles = np.vstack([obstacles, _front_boxes(points[(table["mark"] == FRONT).to_numpy()], better)])
    names = [label for label in table["label"] if label]
    sizes = np.array([[text_width([name], SMALL) + 6, SMALL + 4] for name in names]).reshape(-1, 2)
    points = points[: len(names)]
    boxes = place_labels(points, sizes, obstacles, (2, 2, WIDTH - 2, HEIGHT - 2))
    placed = ~np.isnan(boxes[:, 0])
    points, boxes = points[placed], boxes[placed]
    ends = leader_ends(points, boxes)
    (at_x, at_y), (end_x, end_y), (from_x, from_y) = map(units, ((boxes[:, :2] + boxes[:, 2:]) / 2, ends, points))
    return pd.DataFrame(
        {"label": np.array(names)[placed], "x": at_x, "y": at_y, "from_x": from_x, "from_y": from_y}
        | {"end_x": end_x, "end_y": end_y, "far": np.linalg.norm(ends - points, axis=1) > 12}
    )


def _front_boxes(points: np.ndarray, better: int) -> np.ndarray:
    """The boxes in pixels of the steps between the points of the front."""
    points = points[np.lexsort((-points[:, 1], points[:, 0]))]
    one, other = points[:-1], points[1:]
    corners = np.stack([other[:, 0], one[:, 1]] if better < 0 else [one[:, 0], other[:, 1]], axis=1)
    starts, ends = np.vstack([one, corners]), np.vstack([corners, other])
    return np.hstack([np.minimum(starts, ends) - 2, np.maximum(starts, ends) + 2])


def _layers(
    table: pd.DataFrame, labels: pd.DataFrame, cost: CostAxis, scales: tuple[alt.Scale, alt.Scale], title_x: str
) -> list[alt.Chart]:
    def x(column: str = "x") -> alt.X:
        return alt.X(f"{column}:Q", scale=scales[0], title=title_x, axis=alt.Axis(tickCount=8))

    def y(column: str = "top1") -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scales[1], title="top-1 accuracy (%)")

    columns = ["name", "x", "top1", "low", "high", "mark", "n"]
    base, texts = alt.Chart(inline(table[columns])), alt.Chart(inline(labels))
    kinds = {mark: form for mark, form in MARKS.items() if (table["mark"] == mark).any()}
    steps = base.transform_filter(f"datum.mark == '{FRONT}'").mark_line(
        color=SKY, strokeWidth=1.3, interpolate="step-after" if cost.better < 0 else "step-before"
    )
    numbers = {"x": title_x, "top1": "top-1 (%)", "n": "seeds"}
    tooltip = tooltips({"name": "design", "mark": "among these"}, numbers, ".4~g")
    leaders = texts.transform_filter("datum.far").mark_rule(style="leader")
    return [
        steps.encode(x=x(), y=y()),
        base.transform_filter("datum.low != null").mark_rule(style="interval").encode(x=x(), y=y("low"), y2="high:Q"),
        leaders.encode(x=x("from_x"), y=y("from_y"), x2="end_x:Q", y2="end_y:Q"),
        points(base, kinds, "mark", x=x(), y=y(), tooltip=tooltip),
        texts.mark_text(style="label", fontSize=SMALL, align="center").encode(x=x(), y=y("y"), text="label:N"),
    ]
