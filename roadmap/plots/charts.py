"""Building blocks of all charts: the theme, inline data, titles and captions, and writing to a file.

Charts do not set the colours of text, axes and background themselves: their marks name a ``style`` of the theme.
"""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import altair as alt
import numpy as np
import pandas as pd

from roadmap.errors import RequestError

Background = Literal["light", "dark"]

# Okabe and Ito's palette, which colour-blind readers can tell apart; shapes, dashes or text repeat what colour says.
BLUE, SKY, VERMILLION, YELLOW = "#0072B2", "#56B4E9", "#D55E00", "#F0E442"
GREEN, PURPLE, ORANGE, GREY = "#009E73", "#CC79A7", "#E69F00", "#8C959F"

WIDTH = 420  # pixels of a plot
TEXT, SMALL, TITLE = 11, 10, 15  # font sizes in pixels
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"  # one set of widths

_COLORS = {
    "light": {"ink": "#1b1f24", "grey": "#57606a", "grid": "#e0e4e8", "background": "#ffffff"},
    "dark": {"ink": "#e7ebef", "grey": "#a3adb8", "grid": "#2a313a", "background": "#12161b"},
}


def theme(background: Background = "light") -> dict[str, Any]:
    """Return Vega-Lite's ``config`` for charts on a light or a dark background."""
    color = _COLORS[background]
    ink, grey, grid = color["ink"], color["grey"], color["grid"]
    text = {"fontSize": TEXT, "color": ink, "baseline": "middle"}
    labels = {"labelColor": ink, "labelFontSize": TEXT, "labelLimit": 0}
    axis = {"domainColor": grey, "gridColor": grid, "tickColor": grey, "titleColor": ink}
    return {
        "background": color["background"],
        "font": FONT,
        "padding": 12,
        "view": {"stroke": None},
        "axis": labels | axis | {"titleFontSize": TEXT, "titleFontWeight": "normal"},
        "legend": labels | {"orient": "top", "title": None, "symbolStrokeColor": ink, "symbolSize": 70},
        "header": labels | {"title": None, "labelAnchor": "start", "labelOrient": "top"},
        "title": {"anchor": "start", "frame": "bounds", "color": ink, "fontSize": TITLE, "offset": 12}
        | {"subtitleColor": grey, "subtitleFontSize": TEXT},
        "range": {"diverging": [VERMILLION, color["background"], BLUE]},
        "style": {
            "label": text,
            "number": text | {"align": "right"},
            "faint": text | {"align": "right", "color": grey},
            "column": {"fontSize": SMALL, "color": grey, "align": "right", "baseline": "bottom"},
            "section": {"fontSize": SMALL, "fontWeight": "bold", "color": grey, "align": "left", "baseline": "middle"},
            "caption": {"fontSize": SMALL, "fontWeight": "normal", "fill": grey, "font": FONT},
            "band": {"color": grey, "opacity": 0.09},
            "interval": {"color": ink, "strokeWidth": 1.1},
            "leader": {"color": grey, "strokeWidth": 0.6},
            "zero": {"color": ink, "strokeWidth": 0.9},
            "mark": {"filled": True, "stroke": ink, "strokeWidth": 0.8, "size": 55, "opacity": 1},
        },
    }


Format = Literal["png", "svg", "pdf"]
AnyChart = alt.Chart | alt.LayerChart | alt.HConcatChart | alt.VConcatChart | alt.FacetChart | alt.ConcatChart
Themed = TypeVar("Themed", bound=AnyChart)
Kinds = Mapping[str, tuple[str, str]]  # name -> shape and colour of its points
LONG_TAIL = 30  # ratio of the ends of an axis above which it is logarithmic
_NARROW, _WIDE = "iljtfrI.,:;'|!()[] ", "mwMW%@→±"


def inline(table: pd.DataFrame | Iterable[dict[str, Any]]) -> alt.InlineData:
    """Return rows as the inline data of a chart; NaN and infinity become null."""
    table = table if isinstance(table, pd.DataFrame) else pd.DataFrame(list(table))
    table = table.replace([float("inf"), -float("inf")], float("nan"))
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[assignment]
    return alt.InlineData(values=rows)


def tooltips(text: Mapping[str, str], numbers: Mapping[str, str], form: str = ".2f") -> list[alt.Tooltip]:
    """Return tooltips of columns by their titles: texts, then numbers in a format."""
    texts = [alt.Tooltip(f"{column}:N", title=title) for column, title in text.items()]
    return [*texts, *(alt.Tooltip(f"{column}:Q", title=title, format=form) for column, title in numbers.items())]


def points(base: alt.Chart, kinds: Kinds, column: str, **channels: Any) -> alt.Chart:
    """Return points whose shape and colour show the kind in ``column``."""
    shape = alt.Scale(domain=list(kinds), range=[shape for shape, _ in kinds.values()])
    fill = alt.Scale(domain=list(kinds), range=[color for _, color in kinds.values()])
    legend = alt.Legend(columns=4 if sum(map(len, kinds)) < 90 else 2)
    marks = base.mark_point(style="mark")
    return marks.encode(
        shape=alt.Shape(f"{column}:N", scale=shape, legend=legend),
        fill=alt.Fill(f"{column}:N", scale=fill, legend=legend),
        **channels,
    )


def text_width(texts: Iterable[str], size: int = TEXT) -> float:
    """Estimate the width in pixels of the widest line of ``texts``."""
    return max((size * sum(map(_em, line)) for text in texts for line in text.split("\n")), default=0.0)


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.31
    if character in _WIDE or ord(character) > 0x2E7F:
        return 1.0
    return 0.7 if character.isupper() else 0.56


def wrapped(text: str, width: float, size: int = TEXT) -> list[str]:
    """Split text into lines of about ``width`` pixels."""
    letters = max(int(width / (0.5 * size)), 20)
    return [line for part in text.split("\n") for line in textwrap.wrap(part, letters, break_on_hyphens=False)]


def framed(chart: AnyChart, title: str, subtitle: str, caption: str, width: float) -> alt.VConcatChart:
    """Put the title and subtitle above a chart of ``width`` pixels, and the caption below it."""
    below = alt.TitleParams(wrapped(caption, width, SMALL), orient="bottom", style="caption", offset=14)
    above = alt.TitleParams(wrapped(title, width, TITLE), subtitle=wrapped(subtitle, width))
    return alt.vconcat(chart.properties(title=below), title=above)


def sentences(parts: Mapping[str, Any]) -> str:
    """Join the sentences whose value is true."""
    return " ".join(sentence for sentence, holds in parts.items() if holds)


def padded(values: Any, room: float, factor: float | None = None) -> tuple[list[float], bool]:
    """Return an axis with a share ``room`` free at its ends, and whether it is logarithmic.

    With a ``factor`` the axis of a long tail is logarithmic and reaches that factor beyond the values.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if factor and low > 0 and high / low > LONG_TAIL:
        return [low / factor, high * factor], True
    room *= (high - low) or abs(high) or 1.0
    return [max(low - room, 0.0) if low >= 0 else low - room, high + room], False


def themed(chart: Themed, background: Background = "light") -> Themed:
    return chart.configure(**theme(background))


def check_suffix(file: Path) -> Format:
    """Return the format that a file's name asks for; RequestError if charts are not written in it."""
    for kind in get_args(Format):
        if file.suffix.lower() == f".{kind}":
            return kind
    raise RequestError(f"cannot draw a figure as '{file.suffix or file.name}'; choose .png, .svg or .pdf")


def save(chart: AnyChart, file: Path, background: Background = "light") -> None:
    """Write a chart as png, svg or pdf, by the file's suffix; equal charts give equal png and svg files.

    Raises RequestError for another suffix and for a file that cannot be written.
    """
    kind = check_suffix(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        themed(chart, background).save(str(file), format=kind, scale_factor=2 if kind == "png" else 1)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
