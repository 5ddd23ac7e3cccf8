"""Reads what a chart draws out of its Vega-Lite specification and out of its SVG."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import vl_convert

from roadmap.plots.charts import AnyChart, themed


def texts(chart: AnyChart) -> list[str]:
    """Every text that is drawn, the lines of one joined by spaces."""
    root = ET.fromstring(vl_convert.vegalite_to_svg(themed(chart).to_dict()))
    return [" ".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def words(chart: AnyChart) -> str:
    """Everything that is written, as one text."""
    return " ".join(" ".join(texts(chart)).split())


def drawn(chart: AnyChart, mark: str, *channels: str) -> list[tuple[Any, ...]]:
    """The values that each mark of a kind encodes in some channels, in the order of the data."""
    found = []
    for layer, rows in _layers(chart.to_dict()):
        fields = [layer.get("encoding", {}).get(channel, {}).get("field") for channel in channels]
        kind = layer["mark"] if isinstance(layer["mark"], str) else layer["mark"]["type"]
        if kind == mark and all(fields):
            found += [tuple(row[field] for field in fields) for row in rows]
    return found


def _layers(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each single view with its filtered data."""
    datasets = spec["datasets"]

    def walk(part: dict[str, Any], data: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        data = datasets[part["data"]["name"]] if "data" in part else data
        for step in part.get("transform", []):
            data = [row for row in data if _holds(step["filter"], row)]
        if "mark" in part:
            yield part, data
        inner = [part["spec"]] if "spec" in part else []
        for key in ("layer", "concat", "hconcat", "vconcat"):
            inner += part.get(key, [])
        for each in inner:
            yield from walk(each, data)

    return walk(spec, [])


def _holds(expression: str, row: dict[str, Any]) -> bool:
    """Evaluate the filters that the charts use: ``[!]datum.x``, ``datum.x == 'y'`` and ``datum.x != null``."""
    match = re.fullmatch(r"(!?)datum\.(\w+)(?: (==|!=) (null|'[^']*'))?", expression)
    assert match is not None, expression
    negated, field, comparison, other = match.groups()
    if comparison is None:
        return bool(row[field]) != bool(negated)
    wanted = None if other == "null" else other.strip("'")
    return (row[field] == wanted) == (comparison == "==")
