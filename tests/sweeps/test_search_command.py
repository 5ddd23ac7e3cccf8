"""``roadmap sweep study=search`` as a user types it, killed and stopped on the way; ``roadmap compare --pareto``."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from roadmap.__main__ import main
from roadmap.runs.reading import read_runs
from roadmap.sweeps.search_command import Plan
from tests.records import EXAMPLES

SEARCH = ["sweep", "study=search", "epochs=2", "study.n_trials=6", "study.population=3", "study.gmacs=[0,0.003]"]
SEARCH += ["conv=depthwise", "kernel=k3,k7", "study.prune.warmup_epochs=1", "study.prune.startup_runs=2"]


def test_the_front_in_a_table_for_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enhanced = ["--where", "recipe == 'enhanced'"]
    assert main(["compare", str(EXAMPLES), *enhanced, "--pareto", "--json", str(tmp_path / "a.json")]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert len(rows) == 16
    on_front = [row for row in rows if row["point"]]
    # the README's table: cheaper ones are worse, and nothing is better than 95.89
    assert [row["variant"] for row in on_front] == ["depthwise_conv", "move_up_depthwise", "gelu"]
    assert all("seed=3,4,5" in row["command"] for row in on_front)
    assert main(["compare", *enhanced, "--pareto", str(EXAMPLES)]) == 0
    assert "front: 3 of 16 designs" in capsys.readouterr().out
    assert main(["compare", str(EXAMPLES), "--pareto"]) == 2
    assert "were trained by recipe enhanced and original" in capsys.readouterr().err


def test_damaged_trials_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SEARCH[1:], f"runs_dir={tmp_path}"]
    trials = Plan.of(words, []).trials
    trials.parent.mkdir(parents=True)
    trials.write_bytes(b"no database" * 99)
    assert main(["sweep", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"roadmap: {trials} holds no trials that can be read (file is not a database); once it is")
    assert said.count("\n") == 1


def test_without_optuna_the_request_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "study=search"]) == 2
    told = capsys.readouterr().err
    assert "study=search needs Optuna and Hydra's sweeper for it; pip install 'convnext-roadmap[search]'" in told


def start(runs_dir: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "roadmap", *SEARCH, f"runs_dir={runs_dir}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def trials(runs_dir: Path) -> list[optuna.trial.FrozenTrial]:
    (file,) = (runs_dir / "searches").glob("search-nano-digits-*/trials.db")
    return optuna.load_study(study_name=file.parent.name, storage=f"sqlite:///{file}").trials


def wait_for_runs(runs_dir: Path, count: int) -> None:
    """Until so many runs have trained for an epoch."""
    until = time.monotonic() + 120
    while len(list(runs_dir.glob("nano-*/metrics.jsonl"))) < count and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.long
def test_a_search_that_is_killed_and_stopped_makes_the_trials_of_one_that_is_not(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    out, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    assert "search-nano-digits-" in out
    assert "6 trials: " in out
    assert "0 failed" in out

    runs_dir = tmp_path / "stopped"
    killed = start(runs_dir)
    wait_for_runs(runs_dir, 2)
    second = start(runs_dir)
    assert "is being run by process" in second.communicate(timeout=300)[1]
    assert second.returncode == 1
    killed.kill()
    killed.communicate()
    before = [trial.state for trial in trials(runs_dir)]
    assert before[-1] == optuna.trial.TrialState.RUNNING
    interrupted = start(runs_dir)
    wait_for_runs(runs_dir, 4)
    interrupted.send_signal(signal.SIGTERM)
    said = interrupted.communicate(timeout=300)[1]
    # in training it is heard at the end of an update; between two trials it ends the process
    assert (interrupted.returncode, "roadmap: stopped by SIGTERM" in said) in ((75, True), (-signal.SIGTERM, False))
    assert len(trials(runs_dir)) < 6
    resumed = start(runs_dir)
    out, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err

    for one, other in zip(trials(tmp_path / "whole"), trials(runs_dir), strict=True):
        assert (one.number, one.state, one.params, one.values) == (
            other.number,
            other.state,
            other.params,
            other.values,
        )
        assert one.user_attrs["run_id"] == other.user_attrs["run_id"]
    runs = [read_runs(folder)[0].set_index("run_id") for folder in (tmp_path / "whole", runs_dir)]
    assert runs[0]["status"].to_dict() == runs[1]["status"].to_dict()
    assert runs[0]["top1"].dropna().to_dict() == runs[1]["top1"].dropna().to_dict()
    (figure,) = (runs_dir / "searches").glob("*/pareto.png")
    assert figure.stat().st_size > 10_000

    more = start(runs_dir, "study.n_trials=7")
    assert "1 of 7 trials to do" in more.communicate(timeout=300)[0]
    assert len(trials(runs_dir)) == 7
