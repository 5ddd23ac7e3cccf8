"""Charts of design spaces: error distributions, and errors against each parameter."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.design_spaces.edf import TAILS, DesignSample, cautions, pair_sentences, summary
from roadmap.errors import RequestError
from roadmap.plots.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, framed, inline, padded

COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, GREY)
DASHES = ([1, 0], [6, 3], [6, 2, 1, 2], [1, 2], [6, 2, 1, 2, 1, 2], [10, 3])
ERROR = "top-1 error after the last epoch (%)"
LANE = 3.0  # between the medians of two spaces, in percent of designs
DRAWN = 0.25  # of the designs, as in arXiv:2003.13678, section 3.2
UNITS = {"width": " (channels)", "kernel": " (pixels)"}
COLUMNS, WIDTH, HEIGHT = 3, 210, 165  # panels in a row; pixels of one


def draw_edf(samples: Sequence[DesignSample], subtitle: str) -> alt.VConcatChart:
    """Return the EDF of each sample with its 95 % band and median. Raises RequestError for too many samples."""
    if len(samples) > len(COLORS):
        raise RequestError(f"--kind edf shows at most {len(COLORS)} spaces (got {len(samples)}); choose by --where")
    domain, log = padded(np.concatenate([sample.errors for sample in samples]), 0.05, 1.1)
    names = [f"{sample.name} ({sample.size})" for sample in samples]
    lines = pd.concat(
        [_steps(sample.errors, domain).assign(space=name) for sample, name in zip(samples, names, strict=True)]
    )
    lanes = 50 + LANE * (np.arange(len(names))[::-1] - (len(names) - 1) / 2)
    medians = summary(samples)[["median", "low", "high"]].assign(space=names, lane=lanes)

    def x(column: str) -> alt.X:
        scale = alt.Scale(domain=domain, type="log" if log else "linear", nice=False, zero=False)
        return alt.X(f"{column}:Q", scale=scale, title=ERROR)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", scale=alt.Scale(domain=[0, 100]), title="designs with at most that error (%)")

    legend = alt.Legend(columns=1, symbolType="stroke", symbolSize=300)
    color = alt.Color("space:N", scale=alt.Scale(domain=names, range=COLORS[: len(names)]), legend=legend)
    dash = alt.StrokeDash("space:N", scale=alt.Scale(domain=names, range=DASHES[: len(names)]), legend=legend)
    steps, middle = alt.Chart(inline(lines)), alt.Chart(inline(medians))
    tooltip = [alt.Tooltip("space:N"), *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("median", "low", "high"))]
    chart = alt.layer(
        steps.mark_area(interpolate="step-after", fillOpacity=0.15 if len(names) < 4 else 0.07).encode(
            x=x("error"), y=y("lower"), y2="upper:Q", color=color
        ),
        steps.mark_line(interpolate="step-after", strokeWidth=1.6).encode(
            x=x("error"), y=y("share"), color=color, strokeDash=dash
        ),
        middle.mark_rule(strokeWidth=1.8).encode(x=x("low"), x2="high:Q", y=y("lane"), color=color),
        middle.mark_point(style="mark").encode(x=x("median"), y=y("lane"), color=color, tooltip=tooltip),
    )
    remarks = [*(pair_sentences(samples) if len(samples) == 2 else []), *cautions(samples)]
    caption = (
        "Bands: 95 % at each error (Wilson's interval). "
        "Circles, at half of the designs: medians with their 95 % bootstrap intervals. "
    ) + " ".join(f"{remark[0].upper()}{remark[1:]}." for remark in remarks)
    title = f"Error of {len(samples)} design spaces" if len(samples) > 1 else "Error of a design space"
    return framed(chart.properties(width=640, height=380), title, subtitle, caption, 690)


def _steps(errors: np.ndarray, domain: Sequence[float]) -> pd.DataFrame:
    """Return the steps of an EDF and of its band, in percent of designs, over the whole axis."""
    from statsmodels.stats.proportion import proportion_confint

    at, counts = np.unique(errors, return_counts=True)
    below = np.concatenate([[0], counts.cumsum(), [len(errors)]])
    lower, upper = proportion_confint(below, len(errors), method="wilson")
    table = pd.DataFrame({"share": below / len(errors), "lower": lower, "upper": upper}) * 100
    return table.assign(error=[domain[0], *at, domain[1]])


def draw_scatter(sample: DesignSample, subtitle: str) -> alt.VConcatChart:
    """Return errors against cost and each parameter in which designs differ. Raises RequestError if nothing differs."""
    caption = (
        f"Points: {sample.size}. Of {_drawn(len(sample.errors))} designs drawn at random from these, with replacement, "
        "the best lies in the blue band in 95 % of draws, and on either side of the red line in half of them. "
        "Parameters may vary together, above all in a band of cost: a panel does not isolate one parameter's effect."
    ) + "".join(f" {remark[0].upper()}{remark[1:]}." for remark in cautions([sample]))
    title = f"Error of {len(sample.designs)} designs by what they differ in"
    panels = [
        _panel(label, values, sample.errors, number % COLUMNS == 0)
        for number, (label, values) in enumerate(parameters(sample.designs).items())
    ]
    return framed(alt.concat(*panels, columns=COLUMNS), title, subtitle, caption, COLUMNS * (WIDTH + 40))


def parameters(designs: pd.DataFrame) -> dict[str, list[Any]]:
    """Return label → the value of each design, for the costs and each field that varies; ``depths`` by stage."""
    scale, unit = (1000, "MFLOPs") if designs["gmacs"].max() < 0.1 else (1, "GFLOPs")
    costs = {f"{unit} (MACs)": [*designs["gmacs"] * scale], "parameters (millions)": [*designs["params"]]}
    fields: dict[str, list[Any]] = {}
    for field in designs["design"].iloc[0]:
        values = [design.get(field) for design in designs["design"]]
        if field == "depths":
            stages = enumerate(zip(*values, strict=True), 1)
            fields |= {f"blocks in stage {stage}": [*column] for stage, column in stages}
        else:
            fields[f"{field}{UNITS.get(field, '')}"] = values
    varied = {label: values for label, values in fields.items() if len(set(values)) > 1}
    if not varied:
        raise RequestError("these designs differ in nothing; name runs of several designs")
    return costs | varied


def _drawn(designs: int) -> int:
    return max(1, round(DRAWN * designs))


def best_probabilities(errors: np.ndarray) -> np.ndarray:
    """Return the probability of each design to be the best of a quarter of them, drawn with replacement.

    It is the limit of the bootstrap of arXiv:2003.13678 for many draws. Designs of equal error share theirs.
    """
    at_least = (errors[None] >= errors[:, None]).mean(axis=1)
    above = (errors[None] > errors[:, None]).mean(axis=1)
    drawn = _drawn(len(errors))
    return (at_least**drawn - above**drawn) / ((at_least - above) * len(errors))


def best_range(values: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """Return the values below which the best design lies in 2.5, 50 and 97.5 % of draws."""
    order = np.argsort(values)
    sums = np.cumsum(best_probabilities(errors)[order])
    at = np.searchsorted(sums, (TAILS[0], 0.5, TAILS[1])).clip(max=len(sums) - 1)
    low, middle, high = values[order][at].tolist()
    return low, middle, high


def _panel(label: str, values: list[Any], errors: np.ndarray, titled: bool) -> alt.LayerChart | alt.FacetChart:
    """Return the designs by one parameter, with the range of the best ones if it is a number."""
    ends, log = padded(errors, 0.05, 1.1)
    scale = alt.Scale(type="log" if log else "linear", nice=False, zero=False, domain=ends)
    y = alt.Y("error:Q", scale=scale, title=ERROR if titled else None, axis=alt.Axis(tickCount=5))
    numeric = all(isinstance(value, int | float) for value in values)
    if numeric:
        low, middle, high = best_range(np.array(values, float), errors)
        domain = alt.Scale(domain=padded(values, 0.08)[0], nice=False, zero=False)
        whole = all(value == round(value) for value in values)
        axis = alt.Axis(tickCount=5, tickMinStep=1) if whole else alt.Axis(tickCount=5)
        x = alt.X("value:Q", scale=domain, title=label, axis=axis)
        best = alt.Chart(inline([{"low": low, "middle": middle, "high": high}]))
        marks = [
            best.mark_rect(color=SKY, opacity=0.25).encode(x=alt.X("low:Q", scale=domain), x2="high:Q"),
            best.mark_rule(color=VERMILLION, strokeWidth=1.4).encode(x=alt.X("middle:Q", scale=domain)),
        ]
    else:
        values, marks = [*map(str, values)], []
        x = alt.X("value:N", title=label, axis=alt.Axis(labelAngle=0, grid=True))
    points = alt.Chart(inline(pd.DataFrame({"value": values, "error": errors}))).mark_point(
        style="mark", size=26, fill=BLUE, strokeWidth=0.5
    )
    tooltip = [alt.Tooltip(f"value:{'Q' if numeric else 'N'}", title=label), alt.Tooltip("error:Q", format=".2f")]
    return alt.layer(*marks, points.encode(x=x, y=y, tooltip=tooltip)).properties(width=WIDTH, height=HEIGHT)
