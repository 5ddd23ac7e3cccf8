"""Sweeps under real faults: processes killed at random moments, and runs that cannot be trained."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from roadmap.runs.run_folder import run_folders
from roadmap.runs.sweep_plan import read_sweeps
from tests.faults.kill_commands import COMMANDS, COMMON, EPOCHS, Killed, faults_of_training, kill_repeatedly


@pytest.mark.long
def test_a_sweep_killed_twice_trains_every_run_exactly_once(tmp_path: Path) -> None:
    killed = Killed(tmp_path / "work" / "runs", *COMMANDS["sweep"])
    assert kill_repeatedly(killed, kills=2, seed=1) == []
    (sweep,) = read_sweeps(killed.runs_dir)
    assert {run["run_id"] for run in sweep.runs} == {event["run"].rpartition("-")[2] for event in killed.events}


@pytest.mark.long
@pytest.mark.parametrize("packed", [1, 2])
def test_a_roadmap_killed_twice_trains_every_run_exactly_once(packed: int, tmp_path: Path) -> None:
    (tmp_path / "conf" / "path").mkdir(parents=True)
    (tmp_path / "conf" / "path" / "short.yaml").write_text("name: short\nsteps: [step=gelu, norm=layer, kernel=k3]\n")
    overrides = [*COMMON, f"packed={packed}", "seeds=[0,1]", "path=short", "--config-dir", str(tmp_path / "conf")]
    killed = Killed(tmp_path / "work" / "runs", "run", overrides, processes=1, runs=6)
    assert kill_repeatedly(killed, kills=2, seed=1) == []


@pytest.mark.slow
def test_a_sweep_retries_and_reports_failing_runs_and_finishes_the_others(tmp_path: Path) -> None:
    """At a learning rate of 1e30 the loss is no number after one update."""
    axes = "study.axes={recipe.optimizer.lr:[0.01,1e30],kernel:[k3,k7]}"
    killed = Killed(
        tmp_path / "work" / "runs", overrides=["study=factorial", axes, "seeds=[0]", "epochs=1", "retries=2"]
    )
    assert [process.wait() for process in killed.start()] == [1, 1]
    (sweep,) = read_sweeps(killed.runs_dir)
    folders = run_folders(killed.runs_dir)
    counts = Counter((event["run"].rpartition("-")[2], event["event"]) for event in killed.events)
    for run_id, variant in {run["run_id"]: run["variant"] for run in sweep.runs}.items():
        status = (folders[run_id].read_summary() or {})["status"]
        if "1e+30" not in variant:
            assert (status, counts[run_id, "running"], counts[run_id, "finished"]) == ("finished", 1, 1)
            continue
        # a process that comes between two attempts of the other has attempts of its own
        assert status == "failed"
        assert 3 <= counts[run_id, "failed"] == counts[run_id, "running"] <= 5
        sentence = f"failed: nano {variant} seed 0: the loss became nan in update 2 of epoch 1 at learning rate 1e+30"
        assert killed.log.count(sentence) == 2, "both processes end with it"
    assert killed.log.count("roadmap: 2 of 4 runs failed") == 2


def history(*lines: str) -> list[dict[str, Any]]:
    """Events a second apart: ``"1 running"`` is of process 1."""
    split = [line.split() for line in lines]
    return [{"time": float(at), "process": int(process), "event": event} for at, (process, event) in enumerate(split)]


WHOLE = ["1 running", *["1 epoch"] * EPOCHS, "1 finished"]


@pytest.mark.parametrize(
    "lines",
    [
        WHOLE,
        ["1 running", "1 epoch", "2 running", "2 epoch", "2 finished"],
        ["1 running", "1 epoch", "2 running", "2 epoch", "2 epoch", "2 finished"],
    ],
)
def test_the_check_accepts_a_run_resumed_after_a_kill(lines: list[str]) -> None:
    assert faults_of_training(history(*lines), {1: 1.5}) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([*WHOLE, *(line.replace("1", "2") for line in WHOLE)], "was finished 2 times"),
        (["1 running", "1 epoch", "1 epoch"], "was finished 0 times"),
        ([*WHOLE, "1 epoch"], "was finished 1 times"),
        (["3 running", "2 running", "2 epoch", "2 epoch", "2 finished"], "from process 3, which lived, by 2"),
        (["1 running", "1 epoch", "1 epoch", "1 epoch", "1 finished"], "by 1 processes, 3 epochs logged"),
        (["1 running", "1 running", "1 epoch", "1 epoch", "1 finished"], "was started 2 times by 1 processes"),
    ],
)
def test_the_check_detects_a_run_trained_twice(lines: list[str], fault: str) -> None:
    assert any(fault in found for found in faults_of_training(history(*lines), {1: 0.5}))
