"""Pictures for a paper: as wide as a column or a page, in a serif font, without title and caption."""

import re
from pathlib import Path
from typing import Any

from roadmap.errors import RequestError
from roadmap.plots.charts import AnyChart, check_suffix, text_width, themed

COLUMN, PAGE = 234, 495  # points: 3.25 and 6.875 inches, of a page with two columns
SMALLEST_TEXT = 0.5  # points of the picture per pixel of the chart, whose text has 10 to 11 pixels
NARROW = 240  # pixels of a plot in a column
FONT = "'Times New Roman', 'Nimbus Roman', 'Liberation Serif', serif"
BESIDE_PLOT = ("number", "faint", "column", "section")  # styles of text that does not fit in a column


def save_for_paper(chart: AnyChart, file: Path) -> str:
    """Write a ``framed`` chart as png (300 dpi), svg or pdf (with its fonts); return its title and caption as text.

    The picture is a column wide, without sections and numbers, if its text then has at least 5 points; otherwise it is
    a page wide. Raises RequestError for another suffix and for a file that cannot be written.
    """
    import vl_convert

    kind = check_suffix(file)
    spec = themed(chart).to_dict()
    words = _without_words(spec)
    svg = _in_column(spec) or _svg(spec, PAGE)[0]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "pdf":
            file.write_bytes(vl_convert.svg_to_pdf(svg))
        elif kind == "png":
            file.write_bytes(vl_convert.svg_to_png(svg, scale=300 / 72))
        else:
            file.write_text(svg.replace("px", "pt", 2), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
    return words


def _without_words(spec: dict[str, Any]) -> str:
    """Remove title and caption from a chart's specification and set the font; return the removed text."""
    title, caption = spec.pop("title"), spec["vconcat"][0].pop("title")
    spec["config"] |= {"font": FONT, "padding": 1, "background": "white"}
    parts = [" ".join(lines) for lines in (title["text"], title.get("subtitle", []), caption["text"])]
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _in_column(spec: dict[str, Any]) -> str | None:
    """The picture in a column; None if it is not a single plot of ``rows.Rows`` or its text would be too small."""
    plot = spec["vconcat"][0]
    layers = {_style(layer): layer for layer in plot.get("layer", [])}
    if not layers.keys() & {*BESIDE_PLOT}:
        return None
    labels = [row["label"] for row in spec["datasets"][layers["label"]["data"]["name"]]]
    ends = {"x": {"value": -text_width(labels) - 12}, "x2": {"value": NARROW}}
    kept = [layer for layer in plot["layer"] if _style(layer) not in BESIDE_PLOT]
    kept = [layer | {"encoding": layer["encoding"] | ends} if _style(layer) == "band" else layer for layer in kept]
    svg, scale = _svg(spec | {"vconcat": [plot | {"layer": kept, "width": NARROW}]}, COLUMN)
    return svg if scale >= SMALLEST_TEXT else None


def _style(layer: dict[str, Any]) -> str:
    mark = layer["mark"]
    return str(mark.get("style", "")) if isinstance(mark, dict) else ""


def _svg(spec: dict[str, Any], width: int) -> tuple[str, float]:
    """The picture with this width in points, written as pixels, and the points per pixel of its chart."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec)
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    assert size is not None
    scale = width / float(size[1])
    sized = f'width="{width}px" height="{float(size[2]) * scale:.1f}px"'
    return svg.replace(size[0], sized, 1), scale
