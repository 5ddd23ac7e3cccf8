"""Locks of runs and plans of sweeps on disk."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roadmap.errors import RequestError
from roadmap.runs.run_folder import RunLock, RunLockedError
from roadmap.runs.sweep_plan import read_sweep, read_sweeps, write_sweep

TAKES_IT = (
    "import sys; from roadmap.runs.run_folder import RunLock\n"
    "lock = RunLock(sys.argv[1], 'abc'); lock.acquire(); print('taken', flush=True); sys.stdin.read()"
)


def test_a_run_is_locked_until_its_process_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", TAKES_IT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"
    assert RunLock(tmp_path, "abc").holder()
    assert not RunLock(tmp_path, "another").holder()
    lock = RunLock(tmp_path, "abc")
    with pytest.raises(RunLockedError, match=f"is training run abc .lock held by process {other.pid} on "):
        lock.acquire()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not RunLock(tmp_path, "abc").holder()
    lock.acquire()
    with pytest.raises(RunLockedError):  # two locks of one process exclude each other too
        RunLock(tmp_path, "abc").acquire()
    lock.release()
    assert not RunLock(tmp_path, "abc").holder()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RequestError, match=r"cannot write .*abc: .*; choose another runs_dir"):
        RunLock(tmp_path / "runs", "abc").acquire()


def test_a_discarded_lock_leaves_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    lock = RunLock(runs, "abc")
    lock.acquire()
    lock.discard()
    assert not runs.exists()
    runs.mkdir()
    (runs / "notes.txt").write_text("kept")
    lock.acquire()
    lock.discard()
    assert [path.name for path in runs.iterdir()] == ["notes.txt"]


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
    with pytest.raises(RequestError, match=re.escape(f"{path} is not a complete plan of a sweep: {words}; move it")):
        read_sweep(path)


@pytest.mark.parametrize("end", ["", "{", '{"seed": 1}'])
def test_incomplete_plan_is_named(tmp_path: Path, end: str) -> None:
    path = write_sweep(tmp_path, header(), ROWS).path
    plan = path / "plan.jsonl"
    plan.write_text(plan.read_text().splitlines(keepends=True)[0] + end)
    with pytest.raises(RequestError, match="is not a complete plan of a sweep"):
        read_sweep(path)
