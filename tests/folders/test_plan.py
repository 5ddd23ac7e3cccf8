"""Plans on disk: written whole, read back, never changed."""

from pathlib import Path

import pytest

from roadmap.errors import RequestError
from roadmap.folders.plan import HEADER_FIELDS, RUN_FIELDS, read_sweep, read_sweeps, sweep_name, write_sweep

ROWS = [dict.fromkeys(RUN_FIELDS) | {"run_id": run_id} for run_id in ("a", "b")]


def header(name: str = "orders-nano-digits-123456") -> dict[str, object]:
    return dict.fromkeys(HEADER_FIELDS) | {"name": name, "runs": 2, "planned": "now"}


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_sweep(tmp_path, header(), ROWS)
    assert written.path == tmp_path / "sweeps" / "orders-nano-digits-123456"
    assert read_sweeps(tmp_path) == [written]
    assert written.runs_dir == tmp_path


def test_a_plan_that_is_there_stays(tmp_path: Path) -> None:
    first = write_sweep(tmp_path, header(), ROWS)
    assert write_sweep(tmp_path, {**header(), "planned": "later"}, ROWS) == first


def test_the_name_tells_studies_and_lists_of_runs_apart() -> None:
    names = {sweep_name("orders", "nano", "digits", ids) for ids in (["a"], ["b"], ["a", "b"], ["ab"])}
    assert len(names) == 4
    assert sweep_name("orders", "nano", "digits", ["a"]).startswith("orders-nano-digits-")


@pytest.mark.parametrize("harm", ["cut", "not json", "no run_id", "header"])
def test_a_plan_that_is_not_whole_is_named(tmp_path: Path, harm: str) -> None:
    path = write_sweep(tmp_path, header(), ROWS).path
    plan = path / "plan.jsonl"
    lines = plan.read_text().splitlines()
    harmed = {"cut": lines[0], "not json": lines[0] + "\n{", "no run_id": lines[0] + '\n{"seed": 1}'}
    if harm == "header":
        (path / "sweep.json").write_text("[]")
    else:
        plan.write_text(harmed[harm])
    with pytest.raises(RequestError, match=r"is no (whole )?plan of a sweep"):
        read_sweep(path)
