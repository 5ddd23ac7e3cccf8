"""The rows of Tables 1, 2, 8 and 12: every printed one has its network, and a bad file is one sentence."""

import csv
from collections import Counter
from typing import Any

import pytest

from roadmap.config.compose import options_of
from roadmap.errors import RequestError
from roadmap.paper.published import PAPER
from roadmap.paper.published_rows import (
    TABLES,
    NetworkRow,
    PublishedRow,
    matches,
    network_rows,
    printed,
    published_rows,
)


@pytest.fixture(scope="module")
def paper() -> dict[str, Any]:
    return options_of(["rows=paper"]).values["rows"]


def of(rows: list[tuple[NetworkRow, tuple[PublishedRow, ...]]], title: str) -> tuple[PublishedRow, ...]:
    return next(found for row, found in rows if row.title == title)


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_row_has_its_network_once(paper: dict[str, Any], table: int) -> None:
    rows = network_rows(paper | {"tables": [table]})
    found = Counter((row.model, row.image_size, row.pretraining) for _, group in rows for row in group)
    with open(PAPER / TABLES[table], newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert found == Counter((row.model, row.image_size, row.pretraining) for row in published_rows(table))
    assert sorted(model for model, _, _ in found) == sorted(line["model"] for line in lines)


def test_a_tables_file_is_the_papers_with_other_tables(paper: dict[str, Any]) -> None:
    table1 = options_of(["rows=table1"]).values["rows"]
    assert table1 == paper | {"name": "table1", "tables": [1, 2, 12]}
    rows = network_rows(table1)
    assert sum(len(group) for _, group in rows) == 35 + 6 + 14
    assert "RVT-S*" not in [row.title for row, _ in rows]


def test_a_network_has_the_cells_of_all_its_tables(paper: dict[str, Any]) -> None:
    """Read off the paper: Swin-T in Tables 1, 8 and 12, ConvNeXt-B at 384 in all but Table 2."""
    rows = network_rows(paper)
    swin = of(rows, "Swin-T")
    assert [row.table for row in swin] == [1, 8, 12]
    assert [printed(swin, field) for field in ("v100", "a100", "c_mce")] == ["757.9", "1325.6", "62.0"]
    assert printed(swin, "top1") == "81.3, 81.2"
    convnext = of(rows, "ConvNeXt-B 384")
    assert printed(convnext, "gflops") == "45.0, 45.1"
    assert [(row.table, row.pretraining, row.top1, row.top1_22k) for row in convnext] == [
        (1, "1k", 85.1, None),
        (1, "22k", 86.8, None),
        (8, "22k", 86.8, None),
        (12, None, 85.1, 86.8),
    ]
    isotropic = of(rows, "ConvNeXt-L (iso.)")
    assert (isotropic[0].training_memory_gb, isotropic[0].pretraining, isotropic[0].a100) == (20.4, "1k", None)
    assert printed(isotropic, "a100") is None


def test_a_users_file_keeps_every_row_and_has_nothing_printed() -> None:
    node = {
        "name": "mine",
        "rows": [{"label": "Swin-T", "change": "model=swin_t"}, {"label": "x", "change": ["a", "b"]}],
    }
    rows = network_rows(node)
    assert [(row.title, row.overrides, group) for row, group in rows] == [
        ("Swin-T", ("model=swin_t", "image_size=224"), ()),
        ("x", ("a", "b", "image_size=224"), ()),
    ]


SWIN = {"label": "Swin-T", "change": "model=swin_t"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"rows": []}, "rows=mine has no rows"),
        ({"rows": [SWIN, SWIN]}, "rows=mine has two rows 'Swin-T'; give them different labels"),
        ({"rows": [SWIN], "table": [1]}, "unknown key rows.table (choose name, tables or rows)"),
        ({"rows": [SWIN], "tables": [3]}, "unknown table 3 in rows.tables (choose 1, 2, 8 or 12)"),
        (
            {"rows": ["model=swin_t"]},
            "rows.rows must be mappings such as {label: Swin-T, change: model=swin_t} (got ",
        ),
        ({"rows": [{"label": "Swin-T"}]}, "rows.rows.change is missing"),
        ({"rows": [SWIN | {"size": 3}]}, "unknown key rows.rows.size (choose label, change, image_size or why)"),
        ({"rows": [SWIN | {"image_size": "big"}]}, "rows.rows.image_size must be an integer at least 1 (got 'big')"),
    ],
)
def test_what_does_not_fit_is_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        network_rows({"name": "mine", **node})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("value", "cell", "expected"),
    [
        (4.4555, "4.5", True),
        (4.4499, "4.5", False),
        (15.951, "16.0", True),
        (15.912, "16.0", False),
        (83.59, "84", True),
        (118.515, "120", False),
        (119.6, "120", True),
    ],
)
def test_a_count_matches_to_the_printed_digits(value: float, cell: str, expected: bool) -> None:
    assert matches(value, cell) is expected
