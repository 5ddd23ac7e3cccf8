"""The networks of the paper's Tables 1, 2, 8 and 12: how to build them (``conf/rows/``) and their published numbers."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.paper.published import PAPER
from roadmap.validation import PositiveInt, Record, shown

TABLES = {1: "table1_imagenet.csv", 2: "table2_isotropic.csv", 8: "table8_robustness.csv", 12: "table12_a100.csv"}
IMAGE_SIZE = 224  # of rows without one


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table: counts as printed, accuracies in percent; None if the table has no such column.

    ``top1`` belongs to ``pretraining``; Table 12 has both values of a network in one row.
    """

    table: int
    model: str
    image_size: int
    pretraining: str | None  # 1k, 22k; None: both, Table 12
    gflops: str  # MACs x10⁹
    params_m: str | None
    v100: float | None  # images per second, inference
    a100: float | None
    training_memory_gb: float | None
    top1: float | None
    top1_22k: float | None
    c_mce: float | None
    c_bar_error: float | None
    a_top1: float | None
    r_top1: float | None
    sketch_top1: float | None


class NetworkRow(Record):
    """A network at an image size: one entry of a file in ``conf/rows/``."""

    place: ClassVar[str] = "rows.rows"

    label: str  # name in the tables
    change: tuple[str, ...]  # overrides that build it
    image_size: PositiveInt = IMAGE_SIZE
    why: str | None = None  # why a published count differs from ours

    @classmethod
    def from_entry(cls, entry: Any) -> "NetworkRow":
        """Return the row of an entry; ``change`` may be a single string."""
        if not isinstance(entry, Mapping):
            raise RequestError(
                f"{cls.place} must be mappings such as {{label: Swin-T, change: model=swin_t}} (got {shown(entry)})"
            )
        change = entry.get("change")
        return cls.from_mapping({**entry, **({"change": [change]} if isinstance(change, str) else {})})

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the overrides that compose it."""
        return (*self.change, f"image_size={self.image_size}")

    @property
    def title(self) -> str:
        """Return the label, with the image size unless it is 224."""
        return self.label if self.image_size == IMAGE_SIZE else f"{self.label} {self.image_size}"


def network_rows(node: Mapping[str, Any]) -> list[tuple[NetworkRow, tuple[PublishedRow, ...]]]:
    """Return the networks of a ``rows`` group in order, each with its rows in the group's ``tables``.

    A group with ``tables`` is restricted to their networks. Raises RequestError for an invalid entry, an unknown table,
    or two rows with the same title.
    """
    unknown_keys = [key for key in node if key not in ("name", "tables", "rows")]
    if unknown_keys:
        raise RequestError(f"unknown key rows.{unknown_keys[0]} (choose name, tables or rows)")
    tables = node.get("tables")
    unknown = [table for table in tables or () if table not in TABLES]
    if unknown:
        raise RequestError(f"unknown table {unknown[0]!r} in rows.tables (choose {listed(TABLES)})")
    rows = [NetworkRow.from_entry(entry) for entry in node.get("rows") or ()]
    if not rows:
        raise RequestError(f"rows={node.get('name')} has no rows")
    titles = [row.title for row in rows]
    for title in titles:
        if titles.count(title) > 1:
            raise RequestError(f"rows={node.get('name')} has two rows '{title}'; give them different labels")
    published = [row for table in tables or () for row in published_rows(table)]
    found = [
        (row, tuple(p for p in published if (p.model, p.image_size) == (row.label, row.image_size))) for row in rows
    ]
    return [(row, printed) for row, printed in found if printed or tables is None]


@cache
def published_rows(table: int) -> tuple[PublishedRow, ...]:
    """Return the rows of Table 1, 2, 8 or 12 of the paper, in order."""
    with open(PAPER / TABLES[table], newline="", encoding="utf-8") as file:
        return tuple(_published(table, row) for row in csv.DictReader(file))


def _published(table: int, cells: Mapping[str, str]) -> PublishedRow:
    def number(column: str) -> float | None:
        return float(cells[column]) if cells.get(column) else None

    return PublishedRow(
        table=table,
        model=cells["model"],
        image_size=int(cells.get("image_size", IMAGE_SIZE)),
        # Table 2 is ImageNet-1K only, Table 12 has a column for each
        pretraining=cells.get("pretraining", None if table == 12 else "1k"),
        gflops=cells["gflops"],
        params_m=cells.get("params_m"),
        v100=number("v100_images_per_s"),
        a100=number("a100_images_per_s"),
        training_memory_gb=number("training_memory_gb"),
        top1=number({8: "clean", 12: "top1_1k"}.get(table, "top1")),
        top1_22k=number("top1_22k"),
        c_mce=number("c_mce"),
        c_bar_error=number("c_bar_error"),
        a_top1=number("a_top1"),
        r_top1=number("r_top1"),
        sketch_top1=number("sketch_top1"),
    )


def printed(rows: Sequence[PublishedRow], field: str) -> str | None:
    """Return the distinct published values of a column, such as '45.0, 45.1'; None if there are none."""
    cells = [getattr(row, field) for row in rows]
    return ", ".join(dict.fromkeys(f"{cell}" for cell in cells if cell is not None)) or None


def matches(value: float, cell: str) -> bool:
    """Return whether a number rounds to a printed one: within half a unit of its last digit."""
    unit = Decimal(1).scaleb(int(Decimal(cell).as_tuple().exponent))
    return abs(Decimal(value) - Decimal(cell)) <= unit / 2
