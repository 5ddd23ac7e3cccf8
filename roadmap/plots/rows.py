"""Charts with one row per step: labels and sections at the left of a plot, columns of numbers at its right."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import altair as alt
import pandas as pd

from roadmap.plots.charts import inline, points, text_width
from roadmap.plots.theme import BLUE, GREY, SMALL, VERMILLION, YELLOW

GAP, BETWEEN = 14, 28  # pixels between columns, and between plots in a row
OUTSIDE_GAIN, OUTSIDE_LOSS, WITHIN, UNKNOWN = (
    "gain outside noise",
    "loss outside noise",
    "within noise",
    "noise unknown",
)
GAP_KINDS = {  # shape and colour of a change of accuracy
    OUTSIDE_GAIN: ("triangle-up", BLUE),
    OUTSIDE_LOSS: ("triangle-down", VERMILLION),
    WITHIN: ("circle", GREY),
    UNKNOWN: ("cross", GREY),
}


@dataclass(frozen=True)
class Column:
    """Texts beside the plot, one per row; ``lane`` is their distance below the middle of a row, in rows."""

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


def one_line(texts: pd.Series) -> list[str]:
    """Return texts with every run of white space replaced by one space."""
    return [" ".join(str(text).split()) for text in texts]


def cells(values: pd.Series, form: str = "{:.2f}", missing: str = "") -> list[str]:
    """Format numbers as the cells of a column."""
    return [missing if pd.isna(value) else form.format(value) for value in values]


def gap_kinds(delta: pd.Series, outside: pd.Series, known: pd.Series) -> list[str]:
    """Return one of ``GAP_KINDS`` per change of accuracy, empty if unknown; ``known`` is its noise."""
    return [
        "" if pd.isna(value) else (OUTSIDE_GAIN if value > 0 else OUTSIDE_LOSS) if out else WITHIN if has else UNKNOWN
        for value, out, has in zip(delta, outside, known, strict=True)
    ]


def gap_limit(values: pd.DataFrame, ends: pd.DataFrame) -> tuple[float, bool]:
    """Return how far a symmetric axis reaches, and whether it cuts intervals, which a few seeds make very wide."""
    shown = max(values.abs().max().max(), 0.1)
    widest = max(ends.abs().max().fillna(0).max(), shown)
    return min(widest, 2.5 * shown) * 1.06, bool(widest > 2.5 * shown)


def gap_axis(column: str, limit: float, title: str) -> alt.X:
    """A symmetric axis of changes in percentage points."""
    axis = alt.Axis(format="+~f", tickCount=7, labelExpr="datum.value == 0 ? '0' : datum.label")
    return alt.X(f"{column}:Q", scale=alt.Scale(domain=[-limit, limit], nice=False), title=title, axis=axis)


def gap_marks(
    rows: Rows, table: pd.DataFrame, limit: float, title: str, paper: str, tooltip: list[alt.Tooltip]
) -> list[alt.Chart]:
    """Draw changes of accuracy with their intervals, and a diamond for the column ``paper`` below each.

    ``table`` has ``row``, ``delta``, ``delta_low``, ``delta_high`` and ``kind``, one of ``GAP_KINDS``.
    """
    ends = {end: table[f"delta_{end}"].clip(-limit, limit) for end in ("low", "high")}
    data = inline(table.assign(**ends, own=table["row"] - 0.12, below=table["row"] + 0.24))
    base = alt.Chart(data)
    kinds = {kind: mark for kind, mark in GAP_KINDS.items() if (table["kind"] == kind).any()}
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(style="zero").encode(x=gap_axis("zero", limit, title))
    intervals = base.transform_filter("datum.low != null").mark_rule(style="interval")
    known = base.transform_filter("datum.kind != ''")
    layers = [
        zero,
        intervals.encode(x=gap_axis("low", limit, title), x2="high:Q", y=rows.y("own")),
        points(known, kinds, "kind", x=gap_axis("delta", limit, title), y=rows.y("own"), tooltip=tooltip),
    ]
    if table[paper].notna().any():
        layers.insert(1, diamonds(rows, base, paper, "below", gap_axis(paper, limit, title)))
    return layers


def diamonds(rows: Rows, base: alt.Chart, column: str, lane: str, x: alt.X) -> alt.Chart:
    """Draw the values of ``column`` to compare with as diamonds."""
    marks = base.transform_filter(f"datum.{column} != null").mark_point(style="mark", shape="diamond", fill=YELLOW)
    return marks.encode(x=x, y=rows.y(lane), tooltip=[alt.Tooltip(f"{column}:Q", format=".2f")])
