"""Sweeps under real faults: processes killed at random moments, and runs that cannot be trained."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from roadmap.runs.run_folder import run_folders
from roadmap.runs.sweep_plan import read_sweeps
from tests.faults.kill_a_sweep import EPOCHS, Story, events, faults_of_training, start, try_sweep
from tests.faults.long_haul import ASKED, haul


@pytest.mark.long
def test_a_sweep_killed_twice_trains_every_run_exactly_once(tmp_path: Path) -> None:
    assert try_sweep(kills=2, seed=1, compared="some", work=tmp_path) == []


@pytest.mark.long
def test_a_roadmap_killed_every_few_seconds_is_the_undisturbed_one(tmp_path: Path) -> None:
    """Three steps; `python tests/faults/long_haul.py` kills all of the paper's."""
    (tmp_path / "conf" / "path").mkdir(parents=True)
    (tmp_path / "conf" / "path" / "short.yaml").write_text("name: short\nsteps: [step=gelu, norm=layer, kernel=k3]\n")
    asked = [*ASKED, "seeds=[0,1]", "path=short", "--config-dir", str(tmp_path / "conf")]
    assert haul(asked, seed=1, work=tmp_path / "work", most_kills=2) == []


@pytest.mark.slow
def test_a_run_that_cannot_be_trained_is_tried_again_and_told_and_the_others_finish(tmp_path: Path) -> None:
    """At a learning rate of 1e30 the loss is no number after one update."""
    story = Story(tmp_path / "runs")
    axes = "study.axes={recipe.optimizer.lr:[0.01,1e30],kernel:[k3,k7]}"
    asked = ["study=factorial", axes, "seeds=[0]", "epochs=1", "retries=2"]
    processes = [start(story, asked) for _ in range(2)]
    assert [process.wait() for process in processes] == [1, 1]
    (sweep,) = read_sweeps(story.runs_dir)
    names = {run["run_id"]: run["variant"] for run in sweep.runs}
    folders = run_folders(story.runs_dir)
    summaries = {names[run_id]: folders[run_id].read_summary() or {} for run_id in names}
    told = Counter((event["run"].rpartition("-")[2], event["event"]) for event in events(story))
    log = (tmp_path / "log").read_text()
    for run_id, variant in names.items():
        if "1e+30" not in variant:
            assert summaries[variant]["status"] == "finished"
            assert (told[run_id, "running"], told[run_id, "finished"]) == (1, 1)
            continue
        assert summaries[variant]["status"] == "failed"
        # a process that comes between two attempts of the other's has its own
        assert 3 <= told[run_id, "failed"] == told[run_id, "running"] <= 5
        sentence = f"failed: nano {variant} seed 0: the loss became nan in update 2 of epoch 1 at learning rate 1e+30"
        assert log.count(sentence) == 2, "both processes end with it"
    assert log.count("roadmap: 2 of 4 runs failed") == 2


def history(*told: str) -> list[dict[str, Any]]:
    """Events a second apart: ``"1 running"`` is of process 1."""
    split = [one.split() for one in told]
    return [{"time": float(at), "process": int(who), "event": what} for at, (who, what) in enumerate(split)]


WHOLE = ["1 running", *["1 epoch"] * EPOCHS, "1 finished"]


def test_the_proof_takes_what_is_right() -> None:
    story = Story(Path("runs"), dead={1: 1.5})
    assert faults_of_training(history(*WHOLE), story) == []
    assert faults_of_training(history("1 running", "1 epoch", "2 running", "2 epoch", "2 finished"), story) == []
    assert (
        faults_of_training(history("1 running", "1 epoch", *["2 running", "2 epoch", "2 epoch", "2 finished"]), story)
        == []
    )


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ([*WHOLE, *(line.replace("1", "2") for line in WHOLE)], "was finished 2 times"),
        (["1 running", "1 epoch", "1 epoch"], "was finished 0 times"),
        ([*WHOLE, "1 epoch"], "was finished 1 times"),
        (["3 running", "2 running", "2 epoch", "2 epoch", "2 finished"], "from process 3, which lived, by 2"),
        (["1 running", "1 epoch", "1 epoch", "1 epoch", "1 finished"], "by 1 processes, 3 epochs logged"),
        (["1 running", "1 running", "1 epoch", "1 epoch", "1 finished"], "was begun 2 times by 1 processes"),
    ],
)
def test_the_proof_can_fail(told: list[str], fault: str) -> None:
    assert any(fault in found for found in faults_of_training(history(*told), Story(Path("runs"), dead={1: 0.5})))
