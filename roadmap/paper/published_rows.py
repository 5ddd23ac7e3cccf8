"""The networks of the paper's Tables 1, 2, 8 and 12: how each is made (``conf/rows/``) and the rows printed of it."""

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
IMAGE_SIZE = 224  # of rows that do not say


@dataclass(frozen=True)
class PublishedRow:
    """One printed row. Counts are as printed, since their digits matter; accuracies in percent; None: no such column.

    ``top1`` belongs to ``pretraining``; Table 12 prints both of a network in one row.
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
    """A network at an image size: one entry of a file in ``conf/rows/``, however many printed rows it has."""

    place: ClassVar[str] = "rows.rows"

    label: str  # what the tables call it
    change: tuple[str, ...]  # overrides that make it
    image_size: PositiveInt = IMAGE_SIZE
    why: str | None = None  # where a printed count is not what the network has, the reason in one line

    @classmethod
    def from_entry(cls, entry: Any) -> "NetworkRow":
        """An entry of the file; one override needs no list."""
        if not isinstance(entry, Mapping):
            raise RequestError(
                f"{cls.place} must be mappings such as {{label: Swin-T, change: model=swin_t}} (got {shown(entry)})"
            )
        change = entry.get("change")
        return cls.from_mapping({**entry, **({"change": [change]} if isinstance(change, str) else {})})

    @property
    def overrides(self) -> tuple[str, ...]:
        """What composes it."""
        return (*self.change, f"image_size={self.image_size}")

    @property
    def title(self) -> str:
        """Its label, and its image size where that is not the usual one."""
        return self.label if self.image_size == IMAGE_SIZE else f"{self.label} {self.image_size}"


def network_rows(node: Mapping[str, Any]) -> list[tuple[NetworkRow, tuple[PublishedRow, ...]]]:
    """The rows of a composed ``rows`` group in their order, each with what the group's ``tables`` print of it.

    A group that names tables has only the networks that are in them; without, as in a user's own file, it has all and
    nothing printed. Raises RequestError for an entry or a table that does not fit, or two rows of one title.
    """
    strangers = [key for key in node if key not in ("name", "tables", "rows")]
    if strangers:
        raise RequestError(f"unknown key rows.{strangers[0]} (choose name, tables or rows)")
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
            raise RequestError(f"rows={node.get('name')} has two rows '{title}'; give one a label of its own")
    published = [row for table in tables or () for row in published_rows(table)]
    found = [
        (row, tuple(p for p in published if (p.model, p.image_size) == (row.label, row.image_size))) for row in rows
    ]
    return [(row, printed) for row, printed in found if printed or tables is None]


@cache
def published_rows(table: int) -> tuple[PublishedRow, ...]:
    """The printed rows of Table 1, 2, 8 or 12 of the paper, in its order."""
    with open(PAPER / TABLES[table], newline="", encoding="utf-8") as file:
        return tuple(_published(table, row) for row in csv.DictReader(file))


def _published(table: int, cells: Mapping[str, str]) -> PublishedRow:
    def number(column: str) -> float | None:
        return float(cells[column]) if cells.get(column) else None

    return PublishedRow(
        table=table,
        model=cells["model"],
        image_size=int(cells.get("image_size", IMAGE_SIZE)),
        # Table 2 is of ImageNet-1K alone and Table 12 has a column for each
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
    """What a network's rows print in a column, each different cell once: '45.0, 45.1'; None where none has it."""
    cells = [getattr(row, field) for row in rows]
    return ", ".join(dict.fromkeys(f"{cell}" for cell in cells if cell is not None)) or None


def matches(value: float, cell: str) -> bool:
    """Whether a number is a printed one to the digits that are printed: half a unit of the last, either way."""
    unit = Decimal(1).scaleb(int(Decimal(cell).as_tuple().exponent))
    return abs(Decimal(value) - Decimal(cell)) <= unit / 2
