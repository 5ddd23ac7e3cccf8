"""Each parameter in which designs differ against their error, and where the best of them lie; arXiv:2003.13678, 3.2."""

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from roadmap.design_spaces.design_samples import DesignSample, varied
from roadmap.design_spaces.edf import TAILS
from roadmap.design_spaces.edf_plot import ERROR, seeds_words
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, padded
from roadmap.plots.theme import BLUE, SKY, VERMILLION

DRAWN = 0.25  # of the designs, as the paper draws them
UNITS = {"width": " (channels)", "kernel": " (pixels)"}
QUANTILES = TAILS[0], 0.5, TAILS[1]
COLUMNS, WIDTH, HEIGHT = 3, 210, 165  # panels in a row; pixels of one


@dataclass(frozen=True)
class Panel:
    """A parameter: its label, the value of each design, and its options if they are not numbers."""

    label: str
    values: np.ndarray
    options: tuple[str, ...] = ()


def draw_scatter(sample: DesignSample, conditions: str) -> alt.VConcatChart:
    """Return the designs' errors against their costs and each parameter that varies.

    Raises RequestError if nothing varies.
    """
    designs = sample.designs
    caption = (
        f"Points: {len(designs)} designs, {seeds_words(sample)}. Of {_drawn(len(designs))} designs drawn at random "
        "from these, with replacement, the best lies in the blue band in 95 % of draws, and on either side of the red "
        "line in half of them; options show their share of draws. Parameters may vary together, above all in a band of "
        "cost: a panel does not isolate the effect of its parameter."
    )
    title = f"Error of {len(designs)} designs by what they differ in"
    return scatter_chart(_panels(designs), sample.errors, title, conditions, caption)


def _drawn(designs: int) -> int:
    return max(1, round(DRAWN * designs))


def best_probabilities(errors: np.ndarray) -> np.ndarray:
    """How probable it is of each design that it is the best of a quarter of them, drawn with replacement.

    As the bootstrap of arXiv:2003.13678 with ever more draws; designs of one error share what they have together.
    """
    at_least = (errors[None] >= errors[:, None]).mean(axis=1)
    above = (errors[None] > errors[:, None]).mean(axis=1)
    drawn = _drawn(len(errors))
    return (at_least**drawn - above**drawn) / ((at_least - above) * len(errors))


def best_range(values: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """The value below which the best design lies in 2.5, 50 and 97.5 % of draws."""
    order = np.argsort(values)
    sums = np.cumsum(best_probabilities(errors)[order])
    low, middle, high = values[order][np.searchsorted(sums, QUANTILES).clip(max=len(sums) - 1)].tolist()
    return low, middle, high


def _panels(designs: pd.DataFrame) -> list[Panel]:
    found = varied(designs)
    if not found:
        raise RequestError("these designs differ in nothing; name runs of several designs")
    mega = designs["gmacs"].max() < 0.1
    panels = [
        Panel("MFLOPs (MACs)" if mega else "GFLOPs (MACs)", designs["gmacs"].to_numpy(float) * (1000 if mega else 1)),
        Panel("parameters (millions)", designs["params"].to_numpy(float)),
    ]
    for field, values in found.items():
        if all(isinstance(value, int) for value in values):
            panels.append(Panel(f"{field}{UNITS.get(field, '')}", np.array(values, float)))
        else:
            options = tuple(sorted(set(map(str, values))))
            panels.append(Panel(field, np.array([options.index(str(value)) for value in values], float), options))
    return panels


def scatter_chart(panels: list[Panel], errors: np.ndarray, title: str, subtitle: str, caption: str) -> alt.VConcatChart:
    """Return a chart with one panel per parameter, all with the same axis of errors."""
    drawn = [_panel(panel, errors, number % COLUMNS == 0) for number, panel in enumerate(panels)]
    return framed(alt.concat(*drawn, columns=COLUMNS), title, subtitle, caption, COLUMNS * (WIDTH + 40))


def _panel(panel: Panel, errors: np.ndarray, titled: bool) -> alt.LayerChart | alt.FacetChart:
    """The designs by one parameter; the best ones' range, or the probability of each option to hold the best."""
    ends, log = padded(errors, 0.05, 1.1)
    scale = alt.Scale(type="log" if log else "linear", nice=False, zero=False, domain=ends)
    y = alt.Y("error:Q", scale=scale, title=ERROR if titled else None, axis=alt.Axis(tickCount=5))
    if panel.options:
        probable = best_probabilities(errors)
        names = [f"{option}\n{probable[panel.values == n].sum():.0%}" for n, option in enumerate(panel.options)]
        values = [names[int(value)] for value in panel.values]
        axis = alt.Axis(labelAngle=0, labelExpr="split(datum.label, '\\n')", grid=True)
        x = alt.X("value:N", sort=names, title=panel.label, axis=axis)
        marks = []
    else:
        values = list(panel.values)
        low, middle, high = best_range(panel.values, errors)
        domain = alt.Scale(domain=padded(panel.values, 0.08)[0], nice=False, zero=False)
        whole = bool(np.all(panel.values == np.round(panel.values)))
        axis = alt.Axis(tickCount=5, tickMinStep=1) if whole else alt.Axis(tickCount=5)
        x = alt.X("value:Q", scale=domain, title=panel.label, axis=axis)
        best = alt.Chart(inline([{"low": low, "middle": middle, "high": high}]))
        marks = [
            best.mark_rect(color=SKY, opacity=0.25).encode(x=alt.X("low:Q", scale=domain), x2="high:Q"),
            best.mark_rule(color=VERMILLION, strokeWidth=1.4).encode(x=alt.X("middle:Q", scale=domain)),
        ]
    points = alt.Chart(inline(pd.DataFrame({"value": values, "error": errors}))).mark_point(
        style="mark", size=26, fill=BLUE, strokeWidth=0.5
    )
    tooltip = [
        alt.Tooltip("value:N" if panel.options else "value:Q", title=panel.label),
        alt.Tooltip("error:Q", format=".2f"),
    ]
    return alt.layer(*marks, points.encode(x=x, y=y, tooltip=tooltip)).properties(width=WIDTH, height=HEIGHT)
