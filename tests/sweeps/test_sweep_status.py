"""What became of each planned run, by its record, its metrics and who holds it; and how long the rest takes."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadmap.runs.sweep_plan import Sweep, read_sweep
from roadmap.sweeps.status_text import listed_runs, table
from roadmap.sweeps.sweep_status import SweepStatus, grouped_by_error, read_records, status_of, unplanned_counts
from tests.records import make_run, make_sweep, summary_of

WORKER = "process 7 on node3"


def plan(runs_dir: Path, count: int, **header: Any) -> tuple[list[dict[str, Any]], Sweep]:
    """A sweep of so many seeds of a step, with run_ids 0000000000, 0000000001, …"""
    planned = [summary_of("gelu") | {"seed": seed, "run_id": f"{seed:010}"} for seed in range(count)]
    return planned, read_sweep(make_sweep(runs_dir, "study-nano-digits-123456", planned, **header))


def leave(runs_dir: Path, seed: int, **changes: Any) -> Path:
    """A run's folder as it is left: the example's record with changes, and 3 epochs where it has not finished."""
    folder = runs_dir / f"nano-digits-gelu-s{seed}-{seed:010}"
    make_run(folder, "gelu", seed, **changes)
    return folder


def stand(runs_dir: Path, sweep: Sweep, held: dict[str, str] | None = None) -> SweepStatus:
    runs, skipped = read_records(str(runs_dir), [sweep])
    assert not skipped
    return status_of(sweep, runs, (held or {}).get)


def test_every_state_by_record_and_claim(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 8)
    leave(tmp_path, 0)
    leave(tmp_path, 1, status="failed", error="no good", top1=None)
    leave(tmp_path, 2, status="interrupted", top1=None)
    leave(tmp_path, 3, status="running", top1=None)
    leave(tmp_path, 4, status="running", top1=None)
    leave(tmp_path, 5, status="failed", error="no good", top1=None)
    found = stand(tmp_path, sweep, {f"{seed:010}": WORKER for seed in (4, 5, 6)})
    assert [run.state for run in found.runs] == [
        *("done", "failed", "interrupted"),
        "interrupted",  # its record says running, and nobody holds it: it was killed
        "running",
        "running",  # a failed one that is tried again
        "running",  # not yet begun, but claimed
        "missing",
    ]
    assert found.counts == {"done": 1, "running": 3, "interrupted": 2, "failed": 1, "missing": 1}
    assert found.runs[1].error == "no good"
    assert [found.runs[seed].holder for seed in (3, 4, 5)] == [None, WORKER, WORKER]
    assert [run.progress.epoch if run.progress else None for run in found.runs[3:]] == [3, 3, 3, None, None]


def test_a_finished_run_is_done_whoever_holds_it(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 1)
    leave(tmp_path, 0)
    assert stand(tmp_path, sweep, {"0000000000": WORKER}).runs[0].state == "done"


def test_runs_are_looked_for_where_the_sweep_looks_for_them(tmp_path: Path) -> None:
    """One that lies deeper would be trained again, so it is missing."""
    _, sweep = plan(tmp_path, 1)
    leave(tmp_path / "deeper", 0)
    found = stand(tmp_path, sweep)
    assert found.runs[0].state == "missing"
    assert unplanned_counts([sweep], read_records(str(tmp_path), [sweep])[0]) == {}


def test_runs_of_no_sweep_are_counted_by_status(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 2)
    leave(tmp_path, 1)
    for seed, status in ((5, "finished"), (6, "failed"), (7, "finished")):
        leave(tmp_path, seed, status=status)
    runs, _ = read_records(str(tmp_path), [sweep])
    assert unplanned_counts([sweep], runs) == {"finished": 2, "failed": 1}


def test_a_folder_that_says_nothing_is_named_and_its_run_is_missing(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 1)
    (leave(tmp_path, 0) / "summary.json").write_text('{"run_id": "00')
    runs, skipped = read_records(str(tmp_path), [sweep])
    assert len(skipped) == 1
    assert str(tmp_path) in skipped[0]
    assert status_of(sweep, runs, {}.get).runs[0].state == "missing"


def took(seed: int, seconds: float) -> dict[str, Any]:
    return {"train_seconds": seconds, "started": None, "ended": f"2026-11-25T00:00:{seed:02}+00:00"}


def test_the_time_left_is_that_of_what_is_missing_cut_and_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of 30 epochs that take 60 s: two missing, one cut after 3 epochs, two running at a pace of their own."""
    monkeypatch.setattr("roadmap.runs.run_progress.time", SimpleNamespace(time=lambda: 1002.0))
    _, sweep = plan(tmp_path, 7)
    for seed in (0, 1):
        leave(tmp_path, seed, **took(seed, 60.0))
    leave(tmp_path, 2, status="interrupted", top1=None)
    for seed, pace in ((3, 5.0), (4, 1.0)):
        file = leave(tmp_path, seed, status="running", top1=None) / "metrics.jsonl"
        file.write_text(json.dumps({"epoch": 10, "top1": 50.0, "seconds": pace}) + "\n")
        os.utime(file, (1000, 1000))
    alone = stand(tmp_path, sweep)
    assert alone.left.workers == 0
    assert alone.left.seconds == pytest.approx(2 * 60 + 54 + 2 * 40)
    together = stand(tmp_path, sweep, {"0000000003": WORKER, "0000000004": WORKER})
    assert together.left.workers == 2
    assert together.left.seconds == pytest.approx((2 * 60 + 54 + 98 + 18) / 2)
    assert together.left.basis == "from 2 runs on digits (cpu), of the same designs"


def test_the_slowest_run_bounds_the_time_left(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 3)
    leave(tmp_path, 0, **took(0, 60.0))
    found = stand(tmp_path, sweep, {"0000000001": WORKER, "0000000002": WORKER, "x": WORKER})
    assert found.left.seconds == pytest.approx(60.0)


def test_before_any_run_has_finished_running_ones_give_the_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadmap.runs.run_progress.time", SimpleNamespace(time=lambda: 1000.0))
    _, sweep = plan(tmp_path, 2)
    assert stand(tmp_path, sweep).left.seconds != stand(tmp_path, sweep).left.seconds, "not known"
    file = leave(tmp_path, 0, status="running", top1=None, started=None, ended=None) / "metrics.jsonl"
    file.write_text('{"epoch": 10, "top1": 50.0, "seconds": 2.0}\n')
    os.utime(file, (1000, 1000))
    found = stand(tmp_path, sweep, {"0000000000": WORKER})
    assert found.left.seconds == pytest.approx(20 * 2 + 30 * 2)


def test_runs_on_other_data_say_nothing_of_the_time(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 2, data="cifar10")
    leave(tmp_path, 0, **took(0, 60.0))
    found = stand(tmp_path, sweep)
    assert found.left.seconds != found.left.seconds


def test_a_sweep_that_is_done_has_no_time_left(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 1)
    leave(tmp_path, 0)
    assert stand(tmp_path, sweep).left.seconds == 0


def test_failures_alike_but_for_numbers_are_one_group(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 5)
    for seed, rate in enumerate(("0.004", "1e+30", "8e-05")):
        error = f"the loss became nan in update {seed + 9} of epoch {seed} at learning rate {rate}"
        leave(tmp_path, seed, status="failed", top1=None, error=error)
    leave(tmp_path, 3, status="failed", top1=None, error="no space left")
    leave(tmp_path, 4, status="failed", top1=None, error=None)
    groups = grouped_by_error(stand(tmp_path, sweep).of("failed"))
    assert [[run.plan["seed"] for run in group] for group in groups] == [[0, 1, 2], [3], [4]]
    assert groups[2][0].error == "failed without an error message"


def test_the_table_and_what_is_said_below_it(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 30)
    leave(tmp_path, 0, **took(0, 60.0))
    leave(tmp_path, 1, status="running", top1=None)
    leave(tmp_path, 2, status="interrupted", top1=None)
    for seed in range(3, 18):
        leave(tmp_path, seed, status="failed", top1=None, error=f"cause {'abcdefghijklmno'[seed - 3]}")
    lines = table([stand(tmp_path, sweep, {"0000000001": WORKER})]).splitlines()
    assert " ".join(lines[0].split()) == "sweep runs done running interrupted failed missing time left"
    assert lines[2].split()[:7] == ["study-nano-digits-123456", "30", "1", "1", "1", "15", "12"]
    assert lines[2].endswith("min with 1 running")
    assert lines[4] == "time left: from 1 run on digits (cpu), of the same designs"
    assert lines[5].startswith("running: nano gelu seed 1: epoch 3 of 30, top-1 10.17 %, ")
    assert lines[5].endswith(f" s left, by {WORKER}")
    assert lines[6] == "interrupted: nano gelu seed 2: epoch 3 of 30, top-1 10.17 %"
    assert lines[7] == "failed: nano gelu seed 3: cause a"
    assert lines[-1] == "failed: 5 more, see --list"


def test_the_list_has_a_row_a_run(tmp_path: Path) -> None:
    _, sweep = plan(tmp_path, 3)
    folder = leave(tmp_path, 1, status="failed", top1=None, error="no good")
    assert list(listed_runs([stand(tmp_path, sweep)], ["missing", "failed"])) == [
        ["missing", "0000000000", "nano gelu seed 0", "", ""],
        ["failed", "0000000001", "nano gelu seed 1", str(folder), "no good"],
        ["missing", "0000000002", "nano gelu seed 2", "", ""],
    ]
