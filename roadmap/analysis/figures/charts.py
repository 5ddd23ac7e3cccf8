"""What the pictures with two plotted axes share."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from roadmap.analysis.comparable import EVERYWHERE, check_comparable, differences
from roadmap.analysis.figures.page import GAP, MARGIN, Page, Texts, laid_out
from roadmap.analysis.figures.style import DPI, TEXT
from roadmap.errors import RequestError


def check_one_comparison(runs: pd.DataFrame) -> None:
    """RequestError, naming what differs, for runs whose accuracies are no comparison.

    Runs of one regime as on a roadmap; of several regimes, whose recipes differ, on the same data all the same.
    """
    for _, group in runs.groupby("regime"):
        check_comparable(group)
    if found := differences(runs, EVERYWHERE):
        raise RequestError(
            f"these runs differ in {found[0]}, so one picture of them would compare what is not equal; "
            "name the folders of one kind only, or choose with regime= and data="
        )


def seeds_words(counts: pd.Series) -> str:
    """How many seeds a mean is over."""
    low, high = int(counts.min()), int(counts.max())
    if high == 1:
        return "one seed each"
    return f"mean over {low} to {high} seeds" if low < high else f"mean over {high} seeds"


def plain_ticks(axis: Axis) -> None:
    """Numbers as they are, without a factor at the axis' end; few of them where the axis is logarithmic."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_tick_params(labelsize=TEXT)  # by itself, so that as many fit wherever it is drawn


def plotted_page(figure: Figure, inside: tuple[float, float], texts: Texts, legend: Sequence[str]) -> Page:
    """Lay the page out around the figure's only axes, whose labels take what they need, and set both."""
    (axes,) = figure.axes
    left, right = overhang(figure, axes, inside)
    page = laid_out(inside, (MARGIN + left, MARGIN + right), texts, legend, GAP / 2)
    figure.set_size_inches(page.width, page.height)
    axes.set_position(page.axes)
    return page


def overhang(figure: Figure, axes: Axes, inside: tuple[float, float]) -> tuple[float, float]:
    """Inches that the ticks and labels of axes of ``inside`` inches take at their left and right; moves the axes."""
    wide, high = inside[0] + 4, inside[1] + 4
    figure.set_size_inches(wide, high)
    axes.set_position((2 / wide, 2 / high, inside[0] / wide, inside[1] / high))
    tight, box = axes.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), axes.get_window_extent()
    assert tight is not None
    return (box.x0 - tight.x0) / DPI, max(tight.x1 - box.x1, 0) / DPI
