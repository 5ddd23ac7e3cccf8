"""Error EDFs: one line per design space with its bootstrap band and its median."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from roadmap.design_spaces.design_samples import MOST, DesignSample
from roadmap.design_spaces.edf import band, shares, summary, weights
from roadmap.design_spaces.text import note
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, padded
from roadmap.plots.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION

WIDTH, HEIGHT = 640, 380
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, GREY)
DASHES = ([1, 0], [6, 3], [6, 2, 1, 2], [1, 2], [6, 2, 1, 2, 1, 2], [10, 3])
ERROR = "top-1 error after the last epoch (%)"
LANE = 3.0  # between the medians of two spaces, in percent of designs


def draw_edf(samples: Sequence[DesignSample], weighed: str | None, conditions: str) -> alt.VConcatChart:
    """Return the EDFs of samples, normalised by the cost ``weighed``; ``conditions`` is the subtitle.

    Raises RequestError for more samples than can be told apart.
    """
    if len(samples) > MOST:
        names = ", ".join(each.name for each in samples[:3])
        raise RequestError(
            f"--kind edf tells {MOST} spaces apart, and these are {len(samples)} ({names}, …); choose by --where"
        )
    table = summary(samples)
    title = f"Error of {len(samples)} design spaces" if len(samples) > 1 else "Error of a design space"
    return edf_chart(samples, table, title, conditions, note(samples, table, weighed))


def edf_chart(
    samples: Sequence[DesignSample], table: pd.DataFrame, title: str, subtitle: str, caption: str
) -> alt.VConcatChart:
    """Return a chart with one line per sample; ``table`` is their ``summary``."""
    errors = np.concatenate([each.errors for each in samples])
    domain, log = padded(errors, 0.05, 1.1)
    names = [f"{each.name} ({len(each.designs)} designs, {seeds_words(each)})" for each in samples]
    lines = pd.concat([_line(each, name, domain) for each, name in zip(samples, names, strict=True)])
    lanes = 50 + LANE * (np.arange(len(names))[::-1] - (len(names) - 1) / 2)
    medians = table[["median", "low", "high"]].assign(space=names, lane=lanes)

    def x(column: str) -> alt.X:
        scale = alt.Scale(domain=domain, type="log" if log else "linear", nice=False, zero=False)
        return alt.X(f"{column}:Q", scale=scale, title=ERROR)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=alt.Scale(domain=[0, 100]), title="designs with at most that error (%)")

    colors = alt.Scale(domain=names, range=COLORS[: len(names)])
    legend = alt.Legend(columns=1, symbolType="stroke", symbolSize=300)
    color = alt.Color("space:N", scale=colors, legend=legend)
    dash = alt.StrokeDash("space:N", scale=alt.Scale(domain=names, range=DASHES[: len(names)]), legend=legend)
    steps, middle = alt.Chart(inline(lines)), alt.Chart(inline(medians))
    bands = steps.mark_area(interpolate="step-after", fillOpacity=0.15 if len(names) < 4 else 0.07)
    tooltip = [alt.Tooltip("space:N"), *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("median", "low", "high"))]
    chart = alt.layer(
        bands.encode(x=x("error"), y=y("lower"), y2="upper:Q", color=color),
        steps.mark_line(interpolate="step-after", strokeWidth=1.6).encode(
            x=x("error"), y=y("share"), color=color, strokeDash=dash
        ),
        middle.mark_rule(strokeWidth=1.8).encode(x=x("low"), x2="high:Q", y=y("lane"), color=color),
        middle.mark_point(style="mark").encode(x=x("median"), y=y("lane"), color=color, tooltip=tooltip),
    )
    return framed(chart.properties(width=WIDTH, height=HEIGHT), title, subtitle, caption, WIDTH + 50)


def _line(sample: DesignSample, name: str, domain: Sequence[float]) -> pd.DataFrame:
    """The steps of an EDF and of its band, in percent of designs, over the whole axis."""
    at = np.unique(sample.errors)
    lower, upper = (_stepped(values) for values in band(sample, at))
    share = _stepped(shares(sample, at, weights(sample))[0])
    errors = np.concatenate([[domain[0]], at, [domain[1]]])
    return pd.DataFrame({"space": name, "error": errors, "share": share, "lower": lower, "upper": upper})


def _stepped(values: np.ndarray) -> np.ndarray:
    """Percent of each share, from 0 below the least error to the last share above the greatest."""
    return 100 * np.concatenate([[0], values, values[-1:]])


def seeds_words(sample: DesignSample) -> str:
    """Return how many seeds a design's error is the mean of, in words."""
    low, high = int(sample.designs["seeds"].min()), int(sample.designs["seeds"].max())
    return "one seed each" if high == 1 else f"{low} seeds each" if low == high else f"{low} to {high} seeds each"
