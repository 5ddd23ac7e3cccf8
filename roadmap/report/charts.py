"""The charts of a report as Vega-Lite specifications."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from roadmap.comparison.roadmap_plot import deltas_chart, paper_regime, roadmap_chart
from roadmap.comparison.step_table import step_table
from roadmap.comparison.tradeoff_plot import COSTS, tradeoff_chart
from roadmap.comparison.tradeoff_plot import SPEED as TRADEOFF_SPEED
from roadmap.plots.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, AnyChart
from roadmap.report.run_data import METRICS
from roadmap.report.sections import Section

SPEED = "bench_inference"  # the column of images per second that a bench measured
LABELS = ["top-1 accuracy (%)", "validation loss", "training loss"]
LINES = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY]
WIDTH = 440  # pixels of a plot, without its labels and numbers
MAX_DESIGNS = 1000  # in a chart of accuracy against cost


def section_charts(section: Section, table: pd.DataFrame) -> Iterator[AnyChart]:
    """Yield the charts of a section; ``table`` has a row per design."""
    run = table[table["top1"].notna()].reset_index(drop=True)
    if section.steps and len(run):
        steps = step_table(section.runs, section.steps).drop(columns="more_seeds")  # may be infinite, unlike JSON
        yield roadmap_chart(steps, title="Accuracy, one change at a time", subtitle="", width=WIDTH)
        if steps["delta"].notna().any():
            words = {"title": "What each step changed", "subtitle": "", "paper": paper_regime(section.steps)}
            yield deltas_chart(steps, width=WIDTH, **words)
    run = run.assign(label=run["variant"], **({TRADEOFF_SPEED: run[SPEED]} if SPEED in run else {}))
    for cost, about in ((COSTS["gmacs"], "FLOPs"), (COSTS["inference"], "measured inference throughput")):
        points = run[run[cost.column].notna()] if cost.column in run else run.iloc[:0]
        if 1 < len(points) <= MAX_DESIGNS:
            yield tradeoff_chart(points.reset_index(drop=True), cost, title=f"Accuracy against {about}", subtitle="")


def curves_chart() -> dict[str, Any]:
    """Learning curves of the runs that are chosen on the page, which puts their points into the dataset ``curves``."""
    metric = alt.param("metric", value=METRICS[0], bind=alt.binding_radio(options=[*METRICS], labels=LABELS, name=" "))
    first = alt.param("first", value=1, bind=alt.binding_range(min=1, max=2, step=1, name="from epoch "))
    chart = alt.Chart(alt.NamedData("curves"), width="container", height=280).mark_line(strokeWidth=1.5)
    chart = chart.transform_calculate(value="datum[metric]").add_params(metric, first)
    chart = chart.transform_filter("datum.epoch >= first && isValid(datum.value)")
    encoded = chart.encode(
        x=alt.X("epoch:Q", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), title=None),
        color=alt.Color("group:N", sort=None, title=None, scale=alt.Scale(range=LINES)),
        detail="run:N",
        tooltip=[alt.Tooltip("run:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", format=".4~g")],
    )
    return dict(encoded.to_dict())
