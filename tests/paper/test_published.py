"""The networks of Tables 1, 2, 8 and 12: every published row has one, with the published counts or a reason."""

import json
import re
from collections import Counter
from typing import Any

import pytest
import torchvision
from golden.make import FOLDER, baseline_models, cost_of

from roadmap.config import config_dir
from roadmap.config.compose import options_of
from roadmap.errors import RequestError
from roadmap.paper.published import (
    ROW_TABLES,
    NetworkRow,
    PublishedRow,
    matches,
    network_rows,
    printed,
    published_rows,
)

GOLDEN = json.loads((FOLDER / "baseline_models.json").read_text(encoding="utf-8"))
COUNTS: dict[str, dict[str, int]] = GOLDEN["rows"]
OTHERS: dict[str, dict[str, int]] = GOLDEN["other_models"]


@pytest.fixture(scope="module")
def paper() -> dict[str, tuple[NetworkRow, tuple[PublishedRow, ...]]]:
    return {row.title: (row, group) for row, group in network_rows(options_of(["rows=paper"]).values["rows"])}


def test_every_published_row_except_rvt_has_one_network(paper: dict[str, Any]) -> None:
    found = Counter(row for _, group in paper.values() for row in group)
    wanted = Counter(row for table in ROW_TABLES for row in published_rows(table) if not row.model.startswith("RVT"))
    assert found == wanted
    table1 = network_rows(options_of(["rows=table1"]).values["rows"])
    assert sum(len(group) for _, group in table1) == 35 + 6 + 14


def test_every_published_count_is_met_or_its_row_says_why_not(paper: dict[str, Any]) -> None:
    """Within 1.3 % of the printed GFLOPs: every network but the EfficientNets."""
    assert list(COUNTS) == list(paper)
    far = set()
    for title, (row, group) in paper.items():
        gmacs, params_m = COUNTS[title]["macs"] / 1e9, COUNTS[title]["params"] / 1e6
        met = [
            matches(gmacs, cells.gflops) and (cells.params_m is None or matches(params_m, cells.params_m))
            for cells in group
        ]
        assert all(met) == (row.why is None), title
        far |= {title for cells in group if abs(gmacs / float(cells.gflops) - 1) > 0.013}
    assert far == {"EffNet-B7 600", "EffNetV2-L 480", "EffNetV2-XL 480"}


@pytest.mark.parametrize("title", ["Swin-T", "ConvNeXt-S (iso.)"])
def test_two_networks_counted_again(title: str, paper: dict[str, Any]) -> None:
    assert cost_of(*paper[title][0].overrides) == COUNTS[title]


@pytest.mark.slow
def test_every_network_counted_again() -> None:
    assert baseline_models() == GOLDEN


def test_resnets_have_the_costs_that_torchvision_and_the_roadmap_have() -> None:
    for depth in (18, 34, 50, 101, 152):
        meta = torchvision.models.get_model_weights(f"resnet{depth}").DEFAULT.meta
        counted = OTHERS[f"resnet{depth}"]
        assert counted["params"] == meta["num_params"]
        assert counted["macs"] / 1e9 == pytest.approx(meta["_ops"], abs=5e-4)
    steps = json.loads((FOLDER / "steps.json").read_text(encoding="utf-8"))
    assert OTHERS["resnet200"] == steps["base"]["resnet50"]


def test_comments_in_networks_yaml_have_the_parameters(paper: dict[str, Any]) -> None:
    text = (config_dir() / "networks.yaml").read_text(encoding="utf-8")
    comments = dict(re.findall(r"^  (\w+):.*# ([\d.]+) M$", text, re.MULTILINE))
    counts = {name: counted for name, counted in OTHERS.items() if not name.startswith("nano")}
    for title, (row, _) in paper.items():
        options = dict(word.split("=") for word in row.overrides)
        counts |= {options[group]: COUNTS[title] for group in ("model", "size") if group in options}
    assert comments == {name: f"{counted['params'] / 1e6:.1f}" for name, counted in counts.items()}


def test_a_network_has_the_cells_of_all_its_tables(paper: dict[str, Any]) -> None:
    """Read off the paper: Swin-T in Tables 1, 8 and 12, ConvNeXt-B at 384 in all but Table 2."""
    swin = paper["Swin-T"][1]
    assert [row.table for row in swin] == [1, 8, 12]
    assert [printed(swin, field) for field in ("v100", "a100", "c_mce")] == ["757.9", "1325.6", "62.0"]
    assert printed(swin, "top1") == "81.3, 81.2"
    convnext = paper["ConvNeXt-B 384"][1]
    assert printed(convnext, "gflops") == "45.0, 45.1"
    assert [(row.table, row.pretraining, row.top1, row.top1_22k) for row in convnext] == [
        (1, "1k", 85.1, None),
        (1, "22k", 86.8, None),
        (8, "22k", 86.8, None),
        (12, None, 85.1, 86.8),
    ]
    (isotropic,) = paper["ConvNeXt-L (iso.)"][1]
    assert (isotropic.training_memory_gb, isotropic.pretraining, isotropic.a100) == (20.4, "1k", None)
    assert printed([isotropic], "a100") is None


SWIN = {"label": "Swin-T", "change": "model=swin_t"}


def test_a_users_file_keeps_every_row_and_has_nothing_printed() -> None:
    rows = network_rows({"name": "mine", "rows": [SWIN, {"label": "x", "change": ["a", "b"]}]})
    assert [(row.title, row.overrides, group) for row, group in rows] == [
        ("Swin-T", ("model=swin_t", "image_size=224"), ()),
        ("x", ("a", "b", "image_size=224"), ()),
    ]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"rows": []}, "rows.rows must be a list of length at least 1 (got [])"),
        ({"rows": [SWIN, SWIN]}, "rows=mine has two rows 'Swin-T'; give them different labels"),
        ({"rows": [SWIN], "table": [1]}, "unknown key rows.table (choose name, rows or tables)"),
        ({"rows": [SWIN], "tables": [3]}, "unknown rows.tables[0] 3 (choose 1, 2, 8 or 12)"),
        ({"rows": [SWIN | {"size": 3}]}, "unknown key rows.rows[0].size (choose label, change, image_size or why)"),
    ],
)
def test_invalid_files_are_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        network_rows({"name": "mine", **node})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("value", "cell", "expected"),
    [(4.4555, "4.5", True), (4.4499, "4.5", False), (83.59, "84", True), (119.6, "120", True)],
)
def test_a_count_matches_to_the_printed_digits(value: float, cell: str, expected: bool) -> None:
    assert matches(value, cell) is expected
