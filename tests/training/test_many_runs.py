"""Many runs in one process, next to other processes: retries, failures, locked runs."""

import gc
from pathlib import Path

import pytest

from roadmap.__main__ import main
from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError
from roadmap.runs.run_folder import RunFolder, RunLock, now
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.training import many_runs
from roadmap.training.many_runs import run_all
from roadmap.training.trainer import Trainer


def request(runs_dir: Path, *words: str) -> Composed:
    return compose(["epochs=1", f"runs_dir={runs_dir}", *words])


def test_failed_run_is_retried_then_reported_while_others_finish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = request(tmp_path, "recipe.optimizer.lr=1e30"), request(tmp_path, "step=gelu")
    summaries, failures = run_all([bad, good], retries=2)
    assert [summary["variant"] for summary in summaries] == ["gelu"]
    ((label, error),) = failures
    assert label == "nano resnet50 recipe.optimizer.lr=1e30 seed 0"
    assert "loss" in str(error)
    assert caplog.text.count("failed; trying again") == 2
    folder = RunFolder.find(bad.experiment())
    assert folder is not None
    assert (folder.read_summary() or {})["status"] == "failed"
    # the next call tries only the failed run
    summaries_again, failures_again = run_all([bad, good])
    assert summaries_again == summaries
    assert len(failures_again) == 1


def test_failures_are_listed_and_set_the_exit_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ['path.steps=[{change: "step=resnet50"}]', "seeds=[0]", "recipe.optimizer.lr=1e30", f"runs_dir={tmp_path}"]
    assert main(["run", *words]) == 1
    *_, failure, last = capfd.readouterr().err.splitlines()
    assert failure.startswith("roadmap: failed: nano resnet50 recipe.optimizer.lr=1e30 seed 0: the loss became")
    assert last == "roadmap: 1 of 1 runs failed; the same command tries them again"
    # what was to be compared is recorded before anything runs
    (plan,) = read_sweeps(tmp_path)
    assert (plan.header["study"], [run["variant"] for run in plan.runs]) == (
        {"name": "path"},
        ["resnet50 recipe.optimizer.lr=1e30"],
    )


def test_unusable_folder_fails_only_its_own_run(tmp_path: Path) -> None:
    good, bad = request(tmp_path), request(tmp_path, "step=gelu")
    folder = RunFolder.open(bad.experiment(), bad.logged_values, bad.overrides).path
    (folder / "summary.json").write_text("{")
    summaries, ((label, error),) = run_all([good, bad])
    assert len(summaries) == 1
    assert label == "nano gelu seed 0"
    assert "summary.json is not a readable record of run" in str(error)
    with pytest.raises(RequestError, match="is not a readable record"):
        run_all([bad])


def test_run_that_failed_in_another_worker_is_not_retried(tmp_path: Path) -> None:
    bad, started = request(tmp_path), now()
    folder = RunFolder.open(bad.experiment(), bad.logged_values, bad.overrides)
    folder.write_summary({"run_id": bad.experiment().run_id, "status": "failed", "ended": now(), "error": "no luck"})
    summaries, ((_, error),) = run_all([bad], retries=5, since=started)
    assert not summaries
    assert str(error) == "no luck"


def test_locked_run_is_trained_after_the_others_once_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = request(tmp_path), request(tmp_path, "step=gelu")
    lock = RunLock(tmp_path, first.experiment().run_id)
    lock.acquire()
    polls: list[float] = []

    def unlock_at_second_poll(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 2:
            lock.release()

    monkeypatch.setattr(many_runs.time, "sleep", unlock_at_second_poll)
    summaries, failures = run_all([first, second])
    assert [summary["variant"] for summary in summaries] == ["gelu", "resnet50"]
    assert len(polls) == 2
    assert not failures


def test_failed_runs_leave_no_trainer_behind(tmp_path: Path) -> None:
    """A trainer holds the network and its activations: after an out-of-memory, the next runs would fail too."""

    def trainers() -> set[int]:
        gc.collect()
        return {id(thing) for thing in gc.get_objects() if type(thing) is Trainer}

    before = trainers()
    _, failures = run_all([request(tmp_path, "recipe.optimizer.lr=1e30", f"seed={seed}") for seed in range(3)])
    assert len(failures) == 3
    assert not trainers() - before
