"""Charts with one row per step: labels and sections at the left of a plot, columns of numbers at its right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from roadmap.plots.charts import (
    BLUE,
    GREEN,
    GREY,
    SMALL,
    VERMILLION,
    YELLOW,
    Kinds,
    inline,
    points,
    text_width,
    tooltips,
)
from roadmap.statistics.correction import ALPHA, CORRECTION_NAMES
from roadmap.statistics.gaps import BETTER, EQUAL, UNDECIDED, WORSE, GapTest

GAP, BETWEEN = 20, 28  # pixels between columns, and between plots in a row
UNTESTED = "not tested"
GAP_KINDS = {  # shape and colour of a gap by its outcome
    BETTER: ("triangle-up", BLUE),
    WORSE: ("triangle-down", VERMILLION),
    EQUAL: ("square", GREEN),
    UNDECIDED: ("circle", GREY),
    UNTESTED: ("cross", GREY),
}


@dataclass(frozen=True)
class Column:
    """Texts next to the plot, one per row; ``lane`` is their distance below the middle of a row, in rows."""

    header: str
    cells: Sequence[str]
    style: str = "number"
    lane: float = 0.0


@dataclass(frozen=True)
class Rows:
    """The rows' labels and sections, and the pixels of a row and of the plot."""

    labels: Sequence[str]
    sections: Sequence[str]
    height: int
    width: int
    columns: Sequence[Column] = field(default=())

    @classmethod
    def of(cls, table: pd.DataFrame, height: int, width: int, columns: Sequence[Column] = ()) -> "Rows":
        """Return the rows of a table with ``label`` and ``section``."""
        return cls([*table["label"]], [*table["section"]], height, width, columns)

    @property
    def left(self) -> float:
        """Pixels of the labels and sections."""
        return text_width(self.labels) + 8 + (text_width(self.sections, SMALL) + GAP if any(self.sections) else 0)

    @property
    def right(self) -> float:
        """Pixels of the columns."""
        return max(self._column_ends().values(), default=0.0)

    @property
    def total_width(self) -> float:
        return self.left + self.width + self.right

    def _column_ends(self) -> dict[str, float]:
        """Header → pixels from the plot to the right end of its column."""
        ends: dict[str, float] = {}
        for header in dict.fromkeys(column.header for column in self.columns):
            cells = [cell for column in self.columns if column.header == header for cell in column.cells]
            width = max(text_width(cells), text_width([header], SMALL))
            ends[header] = max(ends.values(), default=0.0) + width + GAP
        return ends

    def y(self, column: str = "row") -> alt.Y:
        """The vertical position of ``column``, in rows from the top."""
        scale = alt.Scale(domain=[len(self.labels) - 0.5, -0.5], nice=False, zero=False)
        return alt.Y(f"{column}:Q", scale=scale, axis=None)

    def chart(self, *marks: alt.Chart, first: bool = True, last: bool = True) -> alt.LayerChart | alt.FacetChart:
        """Layer bands, ``marks``, labels and columns; of several plots in a row only the first has labels, the last
        columns.
        """
        texts = (self._labels() if first else []) + (self._columns() if last else [])
        bands = [self._bands(first, last)] if any(self.sections) else []
        layers = [*bands, *marks, *texts]
        return alt.layer(*layers).properties(width=self.width, height=self.height * len(self.labels))

    def _blocks(self) -> pd.DataFrame:
        """The runs of equal sections."""
        sections = pd.Series(self.sections, dtype=str)
        number = (sections != sections.shift()).cumsum()
        rows = pd.DataFrame({"section": sections, "row": range(len(sections)), "number": number}).groupby("number")
        blocks = rows.agg(section=("section", "first"), first=("row", "min"), last=("row", "max"), row=("row", "mean"))
        return blocks.assign(first=blocks["first"] - 0.5, last=blocks["last"] + 0.5)

    def _bands(self, first: bool, last: bool) -> alt.Chart:
        left, right = self.left + 4 if first else BETWEEN / 2, self.right + 4 if last else BETWEEN / 2
        ends = {"x": alt.value(-left), "x2": alt.value(self.width + right)}
        bands = alt.Chart(inline(self._blocks().iloc[::2])).mark_rect(style="band")
        return bands.encode(y=self.y("first"), y2="last:Q", **ends)

    def _labels(self) -> list[alt.Chart]:
        data = inline(pd.DataFrame({"row": range(len(self.labels)), "label": self.labels}))
        labels = alt.Chart(data).mark_text(style="label", align="right")
        sections = alt.Chart(inline(self._blocks())).mark_text(style="section")
        return [
            labels.encode(x=alt.value(-8), y=self.y(), text="label:N"),
            sections.encode(x=alt.value(-self.left), y=self.y(), text="section:N"),
        ]

    def _columns(self) -> list[alt.Chart]:
        layers = []
        ends = self._column_ends()
        for column in self.columns:
            x = alt.value(self.width + ends[column.header])
            rows = [row + column.lane for row in range(len(column.cells))]
            cells = alt.Chart(inline(pd.DataFrame({"row": rows, "cell": column.cells})))
            layers.append(cells.mark_text(style=column.style).encode(x=x, y=self.y(), text="cell:N"))
        for header, end in ends.items():
            lines = alt.Chart(inline([{"header": header}])).mark_text(style="column", lineBreak="\n")
            layers.append(
                lines.encode(x=alt.value(self.width + end), y=alt.value(-6 - 12 * header.count("\n")), text="header:N")
            )
        return layers


def columns_of(
    table: pd.DataFrame, specs: Sequence[tuple[str, ...]], style: str = "number", lane: float = 0.0
) -> list[Column]:
    """Return a column for each (header, field, format[, style[, missing value]]) whose field has a value."""
    return [
        Column(header, [format_cell(value, form, *more[1:]) for value in table[name]], more[0] if more else style, lane)
        for header, name, form, *more in specs
        if table[name].notna().any()
    ]


def format_cell(value: Any, form: str, missing: str = "") -> str:
    return missing if pd.isna(value) else form.format(value)


def gap_limit(values: pd.DataFrame, ends: pd.DataFrame) -> float:
    """Return how far a symmetric axis reaches; it cuts intervals, which a few seeds make very wide."""
    shown = max(values.abs().max().max(), 0.1)
    widest = max(ends.abs().max().fillna(0).max(), shown)
    return float(min(widest, 2.5 * shown) * 1.06)


def _gap_axis(column: str, limit: float, title: str) -> alt.X:
    axis = alt.Axis(format="+~f", tickCount=7, labelExpr="datum.value == 0 ? '0' : datum.label")
    return alt.X(f"{column}:Q", scale=alt.Scale(domain=[-limit, limit], nice=False), title=title, axis=axis)


def gap_marks(
    rows: Rows, table: pd.DataFrame, kinds: Kinds, limit: float, title: str, numbers: Mapping[str, str]
) -> list[alt.Chart]:
    """Draw changes in percentage points, ``delta`` with ``delta_low`` to ``delta_high``, on an axis around 0.

    ``table`` also has ``y`` in rows, ``kind`` and ``label``; ``numbers`` are the titles of columns in the tooltip.
    """
    ends = {end: table[f"delta_{end}"].clip(-limit, limit) for end in ("low", "high")}
    base = alt.Chart(inline(table.assign(**ends)))
    tooltip = tooltips({"label": "change", "kind": "kind"}, numbers, ".3~f")
    intervals = base.transform_filter("datum.low != null").mark_rule(style="interval")
    return [
        alt.Chart(inline([{"zero": 0}])).mark_rule(style="zero").encode(x=_gap_axis("zero", limit, title)),
        intervals.encode(x=_gap_axis("low", limit, title), x2="high:Q", y=rows.y("y")),
        points(base, kinds, "kind", x=_gap_axis("delta", limit, title), y=rows.y("y"), tooltip=tooltip),
    ]


def step_gaps(
    rows: Rows, table: pd.DataFrame, title: str, other: str, numbers: Mapping[str, str], test: GapTest
) -> list[alt.Chart]:
    """Draw each row's ``delta`` by its ``outcome``, the column ``other`` below it as a diamond.

    A band shows the bounds of an equivalence test.
    """
    limit = gap_limit(table[["delta", other]], table[["delta_low", "delta_high"]])
    row = np.arange(len(table))
    kind = table["outcome"].replace("", UNTESTED)
    shown = table[["label", *numbers]].assign(y=row - 0.12, below=row + 0.24, kind=kind)
    known = shown[shown["delta"].notna()]
    kinds = {kind: mark for kind, mark in GAP_KINDS.items() if (known["kind"] == kind).any()}
    marks = gap_marks(rows, known, kinds, limit, title, numbers)
    if shown[other].notna().any():
        marks.insert(1, diamonds(rows, alt.Chart(inline(shown)), other, "below", _gap_axis(other, limit, title)))
    if test.equivalence is not None:
        bound = min(test.equivalence, limit)
        band = alt.Chart(inline([{"low": -bound, "high": bound}])).mark_rect(style="band")
        marks.insert(0, band.encode(x=_gap_axis("low", limit, title), x2="high:Q"))
    return marks


def test_words(table: pd.DataFrame, test: GapTest) -> str:
    """How the outcomes of ``table`` were found, for a caption."""
    tested = int((table["outcome"] != "").sum())
    kind = "paired t-tests" if test.paired else "Welch's tests with moderated variances"
    words = f"Better and worse: p < {ALPHA:g} in {tested} {kind}, corrected ({CORRECTION_NAMES[test.correction]})."
    if test.equivalence is not None:
        words += f" Equal: within ± {test.equivalence:g} points (band), likewise."
    return words


def diamonds(rows: Rows, base: alt.Chart, column: str, y: str, x: alt.X) -> alt.Chart:
    """Draw the values of ``column`` to compare with as diamonds."""
    marks = base.transform_filter(f"datum.{column} != null").mark_point(style="mark", shape="diamond", fill=YELLOW)
    return marks.encode(x=x, y=rows.y(y), tooltip=[alt.Tooltip(f"{column}:Q", format=".2f")])


def heat_map(
    rows: Rows, table: pd.DataFrame, x: alt.X, shade: str, reach: float, emphasis: dict[str, Any], **tooltip: Any
) -> list[alt.Chart]:
    """Draw a cell with the text ``cell`` for each ``row`` and x of ``table``.

    Colours show the column ``shade`` from -``reach`` to ``reach``; ``emphasis`` is how the text of ``strong`` cells
    looks.
    """
    base = alt.Chart(inline(table.assign(top=table["row"] - 0.5, bottom=table["row"] + 0.5)))
    scale = alt.Scale(domain=[-reach, 0, reach], range="diverging", interpolate="rgb")
    cells = base.transform_filter(f"datum.{shade} != null").mark_rect()
    color = alt.Color(f"{shade}:Q", scale=scale, legend=None)
    layers = [cells.encode(x=x, y=rows.y("top"), y2="bottom:Q", color=color, **tooltip)]
    plain: dict[str, Any] = {"style": "label", "align": "center", "fontSize": SMALL}
    for condition, look in (("!datum.strong", plain), ("datum.strong", plain | emphasis)):
        texts = base.transform_filter(condition).mark_text(**look)
        layers.append(texts.encode(x=x, y=rows.y(), text="cell:N"))
    return layers
