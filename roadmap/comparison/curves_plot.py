"""Learning curves: one panel per group of runs, the mean over its seeds with a band from the lowest to the highest."""

import math

import altair as alt
import pandas as pd

from roadmap.comparison.groups import group_names, seeds_words, summarise
from roadmap.comparison.step_table import data_words
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.plots.charts import BLUE, SKY, VERMILLION, framed, inline, sentences, tooltips, wrapped
from roadmap.runs.identity import check_comparable, group_keys

NOT_METRICS = ("epoch", "run_id", "variant", "step", "seed")
WIDTH = 720  # pixels of a row of panels


def draw_curves(runs: pd.DataFrame, history: pd.DataFrame, metric: str) -> alt.VConcatChart:
    """Return one metric of the ``history`` of ``runs`` by epoch; unfinished runs up to where they are.

    Raises RequestError for a metric that no run logged, and for runs that cannot be compared.
    """
    numbers = [name for name in history.select_dtypes("number").columns if name not in NOT_METRICS]
    if metric not in numbers:
        known = f" (choose {listed(sorted(numbers))})" if numbers else ", nor has any run here an epoch yet"
        raise RequestError(f"no run logged a metric '{metric}'{known}")
    check_comparable(runs)
    history = history.loc[history[metric].notna(), ["run_id", "epoch", metric]].rename(columns={metric: "value"})
    runs = runs[runs["run_id"].isin(history["run_id"])]
    if not len(runs):
        raise RequestError(f"none of these runs logged '{metric}' (choose {listed(sorted(numbers))})")
    groups = summarise(runs)
    names = dict(zip(group_keys(groups["definition"]), group_names(groups), strict=True))
    runs = runs.assign(name=[names[key] for key in group_keys(runs["definition"])])
    points = history.drop_duplicates(["run_id", "epoch"], keep="last").merge(runs[["run_id", "name", "status"]])
    title = f"Learning curves: {metric}"
    return curves_chart(points, [*names.values()], metric, title=title, subtitle=f"{data_words(runs)}; by epoch")


def curves_chart(points: pd.DataFrame, names: list[str], label: str, *, title: str, subtitle: str) -> alt.VConcatChart:
    """Return a chart with a panel for each of ``names``, all with the same axes.

    ``points`` have name, run_id, status, epoch and value; the finished runs of a name are averaged.
    """
    columns = min(len(names), max(2, min(4, math.ceil(math.sqrt(len(names))))))
    wide = WIDTH / columns - 20
    finished = points["status"] == "finished"
    means = points[finished].groupby(["name", "epoch"])["value"].agg(value="mean", low="min", high="max").reset_index()
    table = pd.concat([means.assign(run_id=""), points.loc[~finished, ["name", "epoch", "value", "run_id"]]])
    panels = {name: "\n".join(wrapped(name, wide)) for name in names}
    table = table.assign(panel=table["name"].map(panels))
    header = alt.Header(labelExpr="split(datum.label, '\\n')")
    chart = (
        alt.layer(*_layers(label, one_epoch=table["epoch"].nunique() == 1), data=inline(table))
        .properties(width=wide, height=max(0.6 * wide, 90) if columns > 1 else 300)
        .facet(facet=alt.Facet("panel:N", sort=[*panels.values()], header=header), columns=columns, spacing=14)
    )
    seeds = points[finished].groupby("name")["run_id"].nunique()
    parts = {
        f"Lines: {seeds_words(seeds) if len(seeds) else 'no finished run'}.": True,
        "Bands: from the lowest to the highest seed.": seeds.max() > 1,
        "Dashed: unfinished runs, each by itself.": (~finished).any(),
    }
    return framed(chart, title, subtitle, sentences(parts), WIDTH)


def _layers(label: str, *, one_epoch: bool) -> list[alt.Chart]:
    axis = alt.Axis(tickCount=4, tickMinStep=1)
    x = alt.X("epoch:Q", scale=alt.Scale(zero=False, nice=False), title="epoch", axis=axis)
    scale = alt.Scale(zero=False, nice=False)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=scale, title=label, axis=alt.Axis(tickCount=5))

    numbers = {"epoch": "epoch", "value": label, "low": "lowest", "high": "highest"}
    base = alt.Chart().encode(x=x, tooltip=tooltips({"name": "design"}, numbers, ".5~g"))
    means, unfinished = base.transform_filter("datum.run_id == ''"), base.transform_filter("datum.run_id != ''")
    return [
        means.mark_area(color=SKY, opacity=0.5).encode(y=y("low"), y2="high:Q"),
        means.mark_line(color=BLUE, strokeWidth=1.5, point=one_epoch).encode(y=y("value")),
        unfinished.mark_line(color=VERMILLION, strokeDash=[4, 3], strokeWidth=1.5, point=one_epoch).encode(
            y=y("value"), detail="run_id:N"
        ),
    ]
