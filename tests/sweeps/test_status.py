"""``roadmap status``: the state of each planned run by its record and its lock, the time left, and the output."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.runs.run_folder import RunLock
from roadmap.runs.sweep_plan import read_sweep
from roadmap.sweeps.status_command import SweepStatus, estimate, read_records, status_of
from tests.records import EXAMPLES, make_run, make_sweep, summary_of

NAME = "leave_one_out-nano-digits-123456"


def plan(runs_dir: Path, count: int, **header: Any) -> None:
    """A sweep of that many seeds of a step, with run_ids 0000000000, 0000000001, …"""
    planned = [summary_of("gelu") | {"seed": seed, "run_id": f"{seed:010}"} for seed in range(count)]
    make_sweep(runs_dir, NAME, planned, **header)


def leave(runs_dir: Path, seed: int, **changes: Any) -> None:
    """A run's folder: the example's record with changes, and 3 epochs if it has not finished."""
    make_run(runs_dir / f"nano-digits-gelu-s{seed}-{seed:010}", "gelu", seed, **changes)


def status(runs_dir: Path) -> SweepStatus:
    runs, skipped = read_records(runs_dir)
    assert not skipped
    return status_of(read_sweep(runs_dir / "sweeps" / NAME), runs)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[list[RunLock]]:
    """Locks of the runs 4, 5 and 6 of ``tmp_path``."""
    locks = [RunLock(tmp_path, f"{seed:010}") for seed in (4, 5, 6)]
    for lock in locks:
        lock.acquire()
    yield locks
    for lock in locks:
        lock.release()


def test_every_state_by_record_and_lock(tmp_path: Path, held: list[RunLock]) -> None:
    plan(tmp_path, 8)
    leave(tmp_path, 0)
    leave(tmp_path, 1, status="failed", error="no good", top1=None)
    leave(tmp_path, 2, status="interrupted", top1=None)
    leave(tmp_path, 3, status="running", top1=None)
    leave(tmp_path, 4, status="running", top1=None)
    leave(tmp_path, 5, status="failed", error="no good", top1=None)
    leave(tmp_path / "deeper", 7)  # where the sweep does not look either
    found = status(tmp_path)
    assert [run.state for run in found.runs] == [
        *("done", "failed", "interrupted"),
        "interrupted",  # its record says running, and nobody holds its lock: it was killed
        "running",
        "running",  # a failed one that is tried again
        "running",  # not yet begun, but locked
        "missing",
    ]
    assert found.counts == {"done": 1, "running": 3, "interrupted": 2, "failed": 1, "missing": 1}
    assert found.runs[1].error == "no good"
    assert [str(run.holder)[:8] for run in found.runs[3:6]] == ["None", "process ", "process "]
    assert [run.progress.epoch if run.progress else None for run in found.runs[3:]] == [3, 3, 3, None, None]


def test_time_left_is_of_missing_interrupted_and_running_runs(tmp_path: Path, held: list[RunLock]) -> None:
    """Runs of 30 epochs that take 60 s: one missing, one interrupted and two running after 3 epochs, one just begun."""
    plan(tmp_path, 7)
    for seed, seconds in ((0, 50.0), (1, 70.0)):
        leave(tmp_path, seed, train_seconds=seconds)
    for seed in (2, 4, 5):
        leave(tmp_path, seed, status="running", top1=None)
    found = status(tmp_path)
    assert [run.seconds_left for run in found.runs] == pytest.approx([0, 0, 54, 60, 54, 54, 60])
    assert found.seconds_left(3) == pytest.approx(282 / 3)
    assert found.seconds_left(100) == pytest.approx(60), "the longest run"


def test_time_left_is_zero_or_unknown(tmp_path: Path) -> None:
    plan(tmp_path / "done", 1)
    leave(tmp_path / "done", 0)
    assert status(tmp_path / "done").seconds_left(1) == 0
    plan(tmp_path / "other", 2, data="cifar10")
    leave(tmp_path / "other", 0)
    assert np.isnan(status(tmp_path / "other").seconds_left(1)), "no run on the same data"


def run(gmacs: float, seconds: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A run of 10 epochs of 100 images: the line of a plan, and the record of one that took ``seconds``."""
    made = {"variant": f"w{gmacs}", "gmacs": gmacs, "epochs": 10, "images": 1000, "train_images": 100, "device": "cpu"}
    return made | {"status": "finished", "train_seconds": seconds, "ended": "2026-11-25T00:00:00+00:00"} | changes


@pytest.mark.parametrize(
    ("planned", "records", "expected"),
    [
        (run(2.0, images=3000), [run(2.0, 10), run(2.0, 14), run(8.0, 999)], 36),
        (run(3.0), [run(1.0, 4), run(2.0, 5)], 9),  # in proportion to GMACs
        (run(2.0), [run(2.0, 10, variant="gelu"), run(2.0, 14, variant="layer_norm")], 12),
        (run(1.0), [run(1.0, 9), run(1.0, 3, device="A100", processes=8, ended="2026-11-26")], 3),
        (run(1.0), [run(1.0, 5, status="failed")], np.nan),
    ],
)
def test_estimates_by_hand(planned: dict[str, Any], records: list[dict[str, Any]], expected: float) -> None:
    assert estimate([planned], pd.DataFrame(records)) == pytest.approx([expected], nan_ok=True)


def test_designs_left_out_of_the_example_runs_are_estimated() -> None:
    runs = roadmap.load_runs(EXAMPLES)
    runs["images"] = runs["epochs"] * runs["train_images"]
    errors = []
    for _, own in runs.groupby("variant"):
        estimated = estimate(own.to_dict("records"), runs.drop(own.index))
        errors += (estimated / own["train_seconds"] - 1).abs().tolist()
    assert np.mean(errors) < 0.2


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Four planned runs: one finished, one failed, one killed, one missing."""
    folder = tmp_path / "runs"
    plan(folder, 4)
    leave(folder, 0)
    leave(folder, 1, status="failed", top1=None, error="no good")
    leave(folder, 2, status="running", top1=None)
    return folder


def row(text: str) -> list[str]:
    """The cells of the sweep's row before the time left."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{NAME} "))
    return line.split()[1:7]


def test_the_table_of_a_folder_of_runs_and_of_a_sweep(
    runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs_dir.parent)
    for places in ([], [f"runs_dir={runs_dir}"], [str(runs_dir / "sweeps" / NAME)]):
        assert main(["status", *places]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == [
            "sweep",
            "runs",
            "done",
            "running",
            "interrupted",
            "failed",
            "missing",
            "time",
            "left",
        ]
        assert row("\n".join(lines)) == ["4", "1", "0", "1", "1", "1"]
        assert lines[2].endswith("s on one worker")
        assert lines[-2].startswith("interrupted: nano gelu seed 2: epoch 3 of 30, top-1 10.17 %")
        assert lines[-1] == "failed: nano gelu seed 1: no good"


def test_a_locked_run_is_running(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(runs_dir, "0000000002")
    lock.acquire()
    assert main(["status", str(runs_dir)]) == 0
    lock.release()
    text = capsys.readouterr().out
    assert row(text) == ["4", "1", "1", "0", "1", "1"]
    assert "running: nano gelu seed 2: epoch 3 of 30, top-1 10.17 %, " in text
    assert ", by process " in text


def test_lists_and_json(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(runs_dir), "--list", "failed,missing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["failed", "0000000001"], ["missing", "0000000003"]]
    assert main(["status", str(runs_dir), "--list", "running"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["status", str(runs_dir), "--json"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert sweep["name"] == NAME
    assert [run["state"] for run in sweep["runs"]] == ["done", "failed", "interrupted", "missing"]
    assert sum(sweep[state] for state in ("done", "running", "interrupted", "failed", "missing")) == 4
    assert (sweep["runs"][1]["error"], sweep["runs"][2]["epoch"]) == ("no good", 3)
    assert sweep["left"]["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{runs}/nothing"], "no folder {runs}/nothing"),
        (["{runs}/sweeps/{name}/plan.jsonl"], "{runs}/sweeps/{name}/plan.jsonl is not a folder"),
        (["{runs}/.."], "no sweep in {runs}/.. (choose the runs_dir of a sweep, or its folder there)"),
        (["{runs}", "--list", "gone"], "unknown state 'gone' in --list (choose done, running, interrupted"),
        (["nonsense=1"], "unknown setting 'nonsense'"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], sentence: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(runs=runs_dir, name=NAME) for word in arguments]
    assert main(["status", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"roadmap: {sentence.format(runs=runs_dir, name=NAME)}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plan.jsonl", None),
        ("plan.jsonl", '{"run_id": "0000000000", "regi'),
        ("plan.jsonl", '{"run_id": "0000000000"}\n' * 4),
        ("plan.jsonl", "\xff\x00"),
        ("sweep.json", "[]"),
        ("sweep.json", '{"runs": 4}'),
        ("../../nano-digits-gelu-s0-0000000000/summary.json", '{"run_id": "00'),
    ],
)
def test_an_unreadable_file_is_named_and_the_rest_is_shown(
    file: str, content: str | None, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = make_sweep(runs_dir, "spoilt-nano-digits-000000", [summary_of("gelu")] * 4) / file
    spoilt.unlink()
    if content is not None:
        spoilt.write_text(content, encoding="latin-1")
    assert main(["status", str(runs_dir)]) == 1
    output = capsys.readouterr()
    assert row(output.out) == ["4", *("00112" if "summary" in file else "10111")]
    assert output.err.count("\n") == 1
    assert str(runs_dir) in output.err
