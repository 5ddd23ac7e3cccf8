"""The look of all charts: colours, fonts and sizes, for light and dark backgrounds.

Charts do not set the colours of text, axes and background themselves: their marks name a ``style`` of the theme.
"""

from typing import Any, Literal

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
