"""``roadmap sweep study=search`` as a user types it, killed and stopped on the way."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from roadmap.__main__ import main
from roadmap.config.compose import Composed
from roadmap.errors import RequestError
from roadmap.runs.reading import read_runs
from roadmap.sweeps.search_space import SearchSpace
from roadmap.sweeps.trials import SearchTrials

SEARCH = ["study=search", "epochs=2", "study.n_trials=6", "study.population=3", "study.gmacs=[0,0.003]"]
SEARCH += ["conv=depthwise", "kernel=k3,k7", "study.prune.warmup_epochs=1", "study.prune.startup_runs=2"]


@pytest.fixture(scope="module")
def any_space() -> SearchSpace:
    return SearchSpace.of(SEARCH, [])


@pytest.fixture
def space(any_space: SearchSpace, tmp_path: Path) -> SearchSpace:
    return replace(any_space, base=Composed(any_space.base.values | {"runs_dir": str(tmp_path / "runs")}, {}, ()))


@pytest.mark.parametrize(
    "journal",
    [b"no journal\n" * 99, b"\xff\xfe\n\n", b'{"op_code": 0, "worker_id": "a"}\n', b"[" * 100_000 + b"\n\n"],
)
def test_a_damaged_journal_is_a_sentence(journal: bytes, space: SearchSpace) -> None:
    file = space.folder / "journal.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(journal)
    with pytest.raises(RequestError) as raised:
        SearchTrials(space)
    said = str(raised.value)
    assert said.startswith(f"{file} is damaged (")
    assert said.endswith("; move it away, and the same command starts the search again and keeps the finished runs")
    assert "\n" not in said


def test_without_optuna_the_request_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "study=search"]) == 2
    assert "study=search needs Optuna; pip install 'convnext-roadmap[search]'" in capsys.readouterr().err


def test_a_dry_run_says_what_is_varied_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--dry-run", *SEARCH, f"runs_dir={tmp_path}/runs"]) == 0
    out = capsys.readouterr().out
    assert "6 trials, proposed by nsgaii" in out
    assert "kernel=k3,k7" in out.split()
    assert not list(tmp_path.iterdir())


def test_a_search_trains_prunes_and_shows_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second of two trials is compared with two perfect runs."""
    curves = iter([[], [{1: 100.0, 2: 100.0}] * 2])
    monkeypatch.setattr("roadmap.sweeps.search_command.peers", lambda composed, cost: next(curves))
    words = ["sweep", *SEARCH, "study.n_trials=2", f"runs_dir={tmp_path}"]
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert "2 of 2 trials to do" in out
    assert ": 2 trials: 1 trained to the end, 1 pruned, 0 failed, 0 running" in out
    assert "front: 1 of 1 designs" in out
    assert "trial 1 pruned after epoch 1: the best top-1 so far" in err
    assert sorted(read_runs(tmp_path)[0]["status"]) == ["finished", "interrupted"]
    (figure,) = (tmp_path / "searches").glob("*/pareto.png")
    assert figure.stat().st_size > 10_000
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert "0 of 2 trials to do" in out
    assert "trial 2" not in out


def start(runs_dir: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "roadmap", "sweep", *SEARCH, f"runs_dir={runs_dir}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def trials(runs_dir: Path) -> list[optuna.trial.FrozenTrial]:
    return SearchTrials(SearchSpace.of([*SEARCH, f"runs_dir={runs_dir}"], [])).all()


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
    assert ": 6 trials: " in out

    runs_dir = tmp_path / "stopped"
    killed = start(runs_dir)
    wait_for_runs(runs_dir, 2)
    killed.kill()
    killed.communicate()
    assert trials(runs_dir)[-1].state == optuna.trial.TrialState.RUNNING
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
        assert (one.state, one.params, one.values) == (other.state, other.params, other.values)
    runs = [read_runs(folder)[0].set_index("run_id") for folder in (tmp_path / "whole", runs_dir)]
    assert runs[0]["status"].to_dict() == runs[1]["status"].to_dict()
    assert runs[0]["top1"].dropna().to_dict() == runs[1]["top1"].dropna().to_dict()

    more = start(runs_dir, "study.n_trials=7")
    assert "1 of 7 trials to do" in more.communicate(timeout=300)[0]
    assert len(trials(runs_dir)) == 7


@pytest.mark.slow
def test_two_commands_and_their_workers_train_each_trial_once(tmp_path: Path) -> None:
    commands = [start(tmp_path), start(tmp_path, "engine=laptop")]
    for command in commands:
        _, err = command.communicate(timeout=600)
        assert command.returncode == 0, err
    found = trials(tmp_path)
    assert len(found) == 6
    assert all(trial.state.is_finished() for trial in found)
    runs, _ = read_runs(tmp_path)
    assert len(runs) == 6
    assert set(runs["status"]) <= {"finished", "interrupted"}
