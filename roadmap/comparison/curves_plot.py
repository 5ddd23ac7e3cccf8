"""Learning curves: one panel per group of runs, the mean over its seeds with a band from the lowest to the highest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from roadmap.comparison.groups import group_names
from roadmap.comparison.step_table import data_words
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.plots.charts import framed, inline, sentences, tooltips, wrapped
from roadmap.plots.theme import BLUE, GREY, SKY, VERMILLION
from roadmap.runs.identity import check_comparable, group_keys
from roadmap.steps.path_file import paper_parents

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
    "train_seconds": "training seconds per epoch",
    "seconds": "seconds per epoch",
}
NOT_METRICS = ("epoch", "run_id", "variant", "step", "seed")
WIDTH = 720  # pixels of a row of panels
FINISHED, UNFINISHED = "finished seeds", "unfinished run"


@dataclass(frozen=True)
class Curve:
    """A group of runs: its name, finished seeds, and each unfinished run by itself; all are Series by epoch."""

    name: str
    finished: list[pd.Series]
    unfinished: list[pd.Series]

    def together(self) -> pd.DataFrame:
        """Return the mean, lowest and highest value of the finished seeds at the epochs that all of them have."""
        seeds = pd.concat(self.finished, axis=1, join="inner").sort_index() if self.finished else pd.DataFrame()
        return pd.DataFrame({"value": seeds.mean(axis=1), "low": seeds.min(axis=1), "high": seeds.max(axis=1)})


def draw_curves(runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> alt.VConcatChart:
    """Return one metric of the ``history`` of ``runs`` by epoch; unfinished runs up to where they are.

    Raises RequestError for a metric that no run logged, and for runs that cannot be compared.
    """
    numbers = [name for name in history.select_dtypes("number").columns if name not in NOT_METRICS]
    if metric not in numbers:
        known = f" (choose {listed(sorted(numbers))})" if numbers else ", nor has any run here an epoch yet"
        raise RequestError(f"no run logged a metric '{metric}'{known}")
    check_comparable(runs)
    curves = _curves(runs, history[history[metric].notna()], metric)
    if not curves:
        raise RequestError(f"none of these runs logged '{metric}' (choose {listed(sorted(numbers))})")
    label = LABELS.get(metric, metric)
    return curves_chart(curves, label, title=f"Learning curves: {label}", subtitle=f"{data_words(runs)}; by epoch")


def _curves(runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> list[Curve]:
    """The groups in the order of the paper's steps, others after them."""
    logged = {run_id: rows.groupby("epoch")[metric].last() for run_id, rows in history.groupby("run_id")}
    place = {step: number for number, step in enumerate(paper_parents())}
    runs = runs[runs["run_id"].isin(list(logged))]
    order = runs["step"].map(place).fillna(len(place)) + 0.5 * (runs["variant"] != runs["step"])
    runs = runs.assign(place=order).sort_values(["regime", "place", "variant"], kind="stable")
    keys = pd.Series(group_keys(runs["definition"]), runs.index)
    groups = [group for _, group in runs.groupby(keys, sort=False)]
    names = group_names(pd.concat([group.head(1) for group in groups])) if groups else []
    curves = []
    for name, group in zip(names, groups, strict=True):
        done = group["status"] == "finished"
        curves.append(
            Curve(name, *([logged[run_id] for run_id in group.loc[which, "run_id"]] for which in (done, ~done)))
        )
    return curves


def curves_chart(curves: Sequence[Curve], label: str, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with a panel per curve, all with the same axes."""
    columns = min(len(curves), max(2, min(4, math.ceil(math.sqrt(len(curves))))))
    wide = WIDTH / columns - 20
    table = _points(curves, wide)
    values = table[["value", "low", "high"]].stack()
    log = bool(values.min() > 0 and values.max() / values.min() > 300)
    y = alt.Scale(type="log" if log else "linear", zero=False, nice=False)
    panels = list(dict.fromkeys(table["panel"]))
    header = alt.Header(labelExpr="split(datum.label, '\\n')")
    chart = (
        alt.layer(*_layers(label, y, any(curve.unfinished for curve in curves)), data=inline(table))
        .properties(width=wide, height=max(0.6 * wide, 90) if columns > 1 else 300)
        .facet(facet=alt.Facet("panel:N", sort=panels, header=header), columns=columns, spacing=14)
    )
    return framed(chart, title, subtitle, _caption(curves, log), WIDTH)


def _points(curves: Sequence[Curve], wide: float) -> pd.DataFrame:
    """One row per line and epoch of a panel; the first column is the panel's heading."""
    together = [curve.together() for curve in curves]
    means = pd.concat([values["value"] for values in together], axis=1)
    envelope = pd.DataFrame({"lowest": means.min(axis=1), "highest": means.max(axis=1)})
    parts = []
    for curve, values in zip(curves, together, strict=True):
        panel = "\n".join([*wrapped(curve.name, wide), _last(curve, values)])
        mean = values.join(envelope) if len(curves) > 1 else values
        for number, line in enumerate([mean, *(run.to_frame("value") for run in curve.unfinished)]):
            kind = UNFINISHED if number else FINISHED
            line = line.assign(panel=panel, name=curve.name, line=number, kind=kind, alone=len(line) == 1)
            parts.append(line.rename_axis("epoch").reset_index())
    columns = ["panel", "name", "line", "kind", "alone", "epoch", "value", "low", "high", "lowest", "highest"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def _layers(label: str, scale: alt.Scale, unfinished: bool) -> list[alt.Chart]:
    axis = alt.Axis(tickCount=4, tickMinStep=1)
    x = alt.X("epoch:Q", scale=alt.Scale(zero=False, nice=False), title="epoch", axis=axis)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scale, title=label, axis=alt.Axis(tickCount=5))

    kinds = [FINISHED, UNFINISHED]
    legend = alt.Legend(symbolType="stroke") if unfinished else None
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[BLUE, VERMILLION]), legend=legend)
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=[[1, 0], [4, 3]]), legend=legend)
    numbers = {"epoch": "epoch", "value": label, "low": "lowest", "high": "highest"}
    tooltip = tooltips({"name": "design"}, numbers, ".5~g")
    base = alt.Chart().encode(x=x)
    everything = base.transform_filter("datum.lowest != null").mark_area(color=GREY, opacity=0.25)
    band = base.transform_filter("datum.low != null").mark_area(color=SKY, opacity=0.5)
    lines = base.encode(y=y("value"), color=color)
    alone = alt.condition("datum.alone", alt.value(1), alt.value(0))
    return [
        everything.encode(y=y("lowest"), y2="highest:Q"),
        band.encode(y=y("low"), y2="high:Q"),
        lines.mark_line(strokeWidth=1.5).encode(strokeDash=dash, detail="line:N"),
        lines.mark_point(filled=True, size=20).encode(tooltip=tooltip, opacity=alone),
    ]


def _last(curve: Curve, values: pd.DataFrame) -> str:
    """Where a curve ends."""
    seeds = f"{len(curve.finished)} seeds" if len(curve.finished) > 1 else "one seed"
    ended = f"ends at {values['value'].iloc[-1]:.4g}, {seeds}" if len(values) else ""
    unfinished = f"{len(curve.unfinished)} not finished" if curve.unfinished else ""
    return "; ".join(filter(None, (ended, unfinished)))


def _caption(curves: Sequence[Curve], log: bool) -> str:
    several = max(len(curve.finished) for curve in curves) > 1
    parts = {
        "Lines: mean over the finished seeds, at the epochs that all of them have; blue bands: their lowest to "
        "highest.": several,
        "Lines: one seed, no bands.": not several,
        "Grey: all designs, from the lowest to the highest mean.": len(curves) > 1,
        "Dashed: unfinished runs, each by itself.": any(curve.unfinished for curve in curves),
        "Logarithmic axis.": log,
    }
    return sentences(parts)
