"""The published numbers of arXiv:2201.03545: of the roadmap's steps (Tables 10, 11) and of Tables 1, 2, 8 and 12."""

import csv
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import FileRecord, PositiveInt, Record

PAPER = Path(__file__).parent
# Scaled-down regimes, and the paper's regime that they are compared with.
SCALED_FROM = {"nano": "tiny", "nano_base": "base", "cifar": "tiny"}
TABLES = {"tiny": "table10_resnet50_regime.csv", "base": "table11_resnet200_regime.csv"}
TABLE_NAMES = {"tiny": "Table 10", "base": "Table 11"}
REFERENCE = "swin"  # a row of the tables that is not a step

# The two of 34 published FLOPs that differ from the step's definition, and why.
EXCEPTIONS = {
    ("tiny", "layer_norm"): (
        "Table 10 prints 4.46 for BN → LN, but LN changes no convolution: Figure 2 of the same paper prints 4.2, and "
        "Table 11 leaves the FLOPs of this step unchanged; the network computes 4.15."
    ),
    ("tiny", "separate_downsampling"): (
        "Table 10 prints 4.49 for ConvNeXt-T, but every public count of it is 4.456, printed as 4.5 in Figure 2; "
        "the network computes 4.46."
    ),
}
# The networks of the other tables; conf/rows/ has how to build them.
ROW_TABLES = {1: "table1_imagenet.csv", 2: "table2_isotropic.csv", 8: "table8_robustness.csv", 12: "table12_a100.csv"}
IMAGE_SIZE = 224  # of rows without one
AnyRecord = TypeVar("AnyRecord", bound=FileRecord)


class Published(FileRecord):
    """One row of Table 10 or 11: top-1 in percent (mean, and std over 3 seeds where given), FLOPs in GMACs."""

    step: str
    label: str
    gflops: str  # as printed
    top1: float
    top1_std: float | None = None


@cache
def published_steps(regime: str) -> dict[str, Published]:
    """Return the published rows of a regime by step name; empty for a regime that is not in the paper."""
    rows = _read(TABLES[regime], Published) if regime in TABLES else ()
    # the first step is called resnet50 in every regime
    return {"resnet50" if row.step == "resnet200" else row.step: row for row in rows}


class PublishedRow(FileRecord):
    """One row of a table: counts as printed, accuracies in percent; None if the table has no such column.

    ``top1`` belongs to ``pretraining``; Table 12 has both values of a network in one row.
    """

    model: str
    gflops: str  # MACs x10⁹
    table: int = 0
    image_size: int = IMAGE_SIZE
    pretraining: str | None = None  # 1k, 22k; None: both, Table 12
    params_m: str | None = None
    v100: float | None = None  # images per second, inference
    a100: float | None = None
    training_memory_gb: float | None = None
    top1: float | None = None
    top1_22k: float | None = None
    c_mce: float | None = None
    c_bar_error: float | None = None
    a_top1: float | None = None
    r_top1: float | None = None
    sketch_top1: float | None = None


class NetworkRow(Record):
    """A network at an image size: one entry of a file in ``conf/rows/``."""

    label: str  # name in the tables
    change: tuple[str, ...] | str  # overrides that build it
    image_size: PositiveInt = IMAGE_SIZE
    why: str | None = None  # why a published count differs from ours

    @property
    def overrides(self) -> tuple[str, ...]:
        change = (self.change,) if isinstance(self.change, str) else self.change
        return (*change, f"image_size={self.image_size}")

    @property
    def title(self) -> str:
        """Return the label, with the image size unless it is 224."""
        return self.label if self.image_size == IMAGE_SIZE else f"{self.label} {self.image_size}"


class NetworkRows(Record):
    """A file in ``conf/rows/``. With ``tables``, it is restricted to the networks of these tables."""

    place: ClassVar[str] = "rows"

    name: str
    rows: Annotated[tuple[NetworkRow, ...], Meta(min_length=1)]
    tables: tuple[Literal[1, 2, 8, 12], ...] | None = None

    def __post_init__(self) -> None:
        titles = [row.title for row in self.rows]
        for title in titles:
            if titles.count(title) > 1:
                raise RequestError(f"rows={self.name} has two rows '{title}'; give them different labels")


def network_rows(node: Mapping[str, Any]) -> list[tuple[NetworkRow, tuple[PublishedRow, ...]]]:
    """Return the networks of a ``rows`` group in order, each with its rows in the group's ``tables``."""
    file = NetworkRows.from_mapping(node)
    published = [row for table in file.tables or () for row in published_rows(table)]
    found = [
        (row, tuple(p for p in published if (p.model, p.image_size) == (row.label, row.image_size)))
        for row in file.rows
    ]
    return [(row, printed) for row, printed in found if printed or file.tables is None]


@cache
def published_rows(table: int) -> tuple[PublishedRow, ...]:
    """Return the rows of Table 1, 2, 8 or 12 of the paper, in order."""
    return tuple(row.replace(table=table) for row in _read(ROW_TABLES[table], PublishedRow))


def _read(file_name: str, kind: type[AnyRecord]) -> list[AnyRecord]:
    with open(PAPER / file_name, newline="", encoding="utf-8") as file:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    return [msgspec.convert(row, kind, strict=False) for row in rows]


def printed(rows: Sequence[PublishedRow], field: str) -> str | None:
    """Return the distinct published values of a column, such as '45.0, 45.1'; None if there are none."""
    cells = [getattr(row, field) for row in rows]
    return ", ".join(dict.fromkeys(f"{cell}" for cell in cells if cell is not None)) or None


def matches(value: float, cell: str) -> bool:
    """Return whether a number rounds to a printed one: within half a unit of its last digit."""
    unit = Decimal(1).scaleb(int(Decimal(cell).as_tuple().exponent))
    return abs(Decimal(value) - Decimal(cell)) <= unit / 2
