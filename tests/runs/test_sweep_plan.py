"""Plans on disk: written whole, read back, never changed."""

import re
from pathlib import Path

import pytest

from roadmap.errors import RequestError
from roadmap.runs.sweep_plan import read_sweep, read_sweeps, write_sweep

ROW = {"regime": "nano", "variant": "gelu", "seed": 0, "step": "gelu", "overrides": ["step=gelu"], "epochs": 30}
ROWS = [ROW | {"run_id": run_id, "gmacs": 0.1, "params_m": 0.5, "images": 9, "changes": None} for run_id in ("a", "b")]


def header() -> dict[str, object]:
    made = {"name": "orders-nano-digits-123456", "runs": 2, "planned": "now", "regime": "nano", "data": "digits"}
    return made | {"seeds": [0], "study": {"name": "orders"}, "changes": ["gelu"], "orders": [["gelu"]]}


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_sweep(tmp_path, header(), ROWS)
    assert written.path == tmp_path / "sweeps" / "orders-nano-digits-123456"
    assert read_sweeps(tmp_path) == [written]
    assert written.runs_dir == tmp_path
    assert write_sweep(tmp_path, {**header(), "planned": "later"}, ROWS) == written


@pytest.mark.parametrize(
    ("changes", "row", "words"),
    [
        ({"study": 2.5}, {}, "study must be a mapping (got 2.5)"),
        ({"orders": ["gelu"]}, {}, "orders[0] must be a list (got 'gelu')"),
        ({"runs": 3}, {}, "sweep.json counts 3 runs and plan.jsonl has 2"),
        ({}, {"epochs": "30"}, "plan.jsonl[0].epochs must be an integer (got '30')"),
        ({}, {"overrides": [1]}, "plan.jsonl[0].overrides[0] must be a string (got 1)"),
    ],
)
def test_a_plan_of_other_kinds_of_values_is_named(
    tmp_path: Path, changes: dict[str, object], row: dict[str, object], words: str
) -> None:
    path = write_sweep(tmp_path, header() | changes, [ROWS[0] | row, ROWS[1]]).path
    with pytest.raises(
        RequestError, match=re.escape(f"{path} is not a complete plan of a sweep: {words}; move it away")
    ):
        read_sweep(path)


@pytest.mark.parametrize("harm", ["cut", "not json", "no run_id", "header"])
def test_incomplete_plan_is_named(tmp_path: Path, harm: str) -> None:
    path = write_sweep(tmp_path, header(), ROWS).path
    plan = path / "plan.jsonl"
    lines = plan.read_text().splitlines()
    harmed = {"cut": lines[0], "not json": lines[0] + "\n{", "no run_id": lines[0] + '\n{"seed": 1}'}
    if harm == "header":
        (path / "sweep.json").write_text("[]")
    else:
        plan.write_text(harmed[harm])
    with pytest.raises(RequestError, match="is not a complete plan of a sweep"):
        read_sweep(path)
