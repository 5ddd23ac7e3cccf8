"""Whether a picture's texts keep apart, for the tests of every kind of picture."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible() and text.get_text()]


def boxes(figure: Figure) -> list[tuple[str, object]]:
    """Each text that is drawn and where, in pixels; ticks outside their axes are not drawn."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    ticks = {tick for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_ticklabels()}
    ticks |= {tick for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_ticklabels(True)}
    drawn = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _drawn(axis)}
    return [(t.get_text(), t.get_window_extent()) for t in texts(figure) if t not in ticks or t in drawn]


def _drawn(axis: object) -> list[Text]:
    return [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2) if label.get_visible()]  # type: ignore[attr-defined]


def check_texts(figure: Figure) -> None:
    """No two texts meet and none leaves the page; the legend keeps clear of the axes."""
    found = boxes(figure)
    for (one, here), (other, there) in itertools.combinations(found, 2):
        assert not here.overlaps(there), (one, other)  # type: ignore[attr-defined]
    legends = [("legend", legend.get_window_extent()) for legend in figure.legends]
    for text, box in [*found, *legends]:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text  # type: ignore[attr-defined]
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text  # type: ignore[attr-defined]
    for _, box in legends:
        assert not any(axes.get_window_extent().overlaps(box) for axes in figure.axes)
