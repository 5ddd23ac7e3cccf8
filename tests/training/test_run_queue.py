"""Many runs beside other processes: failures are tried again and told, what others have is left to them."""

import json
import threading
import time
from pathlib import Path

import pytest

from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError, WorkError
from roadmap.runs.run_folder import RunFolder, now
from roadmap.runs.run_lock import RunLock
from roadmap.training.run_queue import carry_out, check_all_done


def request(runs_dir: Path, *words: str) -> Composed:
    return compose(["epochs=1", f"runs_dir={runs_dir}", *words])


def test_a_failure_is_tried_again_then_told_and_the_others_finish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = request(tmp_path, "recipe.optimizer.lr=1e30"), request(tmp_path, "step=gelu")
    summaries, failures = carry_out([bad, good], retries=2)
    assert [summary["variant"] for summary in summaries] == ["gelu"]
    ((label, error),) = failures
    assert label == "nano resnet50 recipe.optimizer.lr=1e30 seed 0"
    assert "loss" in str(error)
    told = caplog.text
    assert told.count("failed and is tried again") == 2
    folder = RunFolder.find(bad.experiment())
    assert folder is not None
    assert (folder.read_summary() or {})["status"] == "failed"
    with pytest.raises(WorkError, match="1 of 2 runs failed; the same command tries them again"):
        check_all_done(failures, 2)
    assert f"failed: {label}: {error}" in caplog.text
    # the next call tries what failed before it, and only that
    again = carry_out([bad, good])
    assert again[0] == summaries
    assert len(again[1]) == 1


def test_a_folder_that_cannot_be_used_is_that_runs_failure(tmp_path: Path) -> None:
    good, bad = request(tmp_path), request(tmp_path, "step=gelu")
    RunFolder.open(bad.experiment(), bad.values, bad.overrides).path.joinpath("notes.txt").write_text("not a run's")
    summaries, ((label, error),) = carry_out([good, bad])
    assert len(summaries) == 1
    assert label == "nano gelu seed 0"
    assert "holds files but no readable summary.json" in str(error)
    with pytest.raises(RequestError, match="holds files but no readable"):
        carry_out([bad])


def test_what_failed_in_another_worker_of_this_call_is_not_tried_again(tmp_path: Path) -> None:
    asked, began = request(tmp_path), now()
    folder = RunFolder.open(asked.experiment(), asked.values, asked.overrides)
    folder.write_summary({"run_id": asked.experiment().run_id, "status": "failed", "ended": now(), "error": "no luck"})
    summaries, ((_, error),) = carry_out([asked], retries=5, since=began)
    assert not summaries
    assert str(error) == "no luck"


def test_a_run_that_another_has_is_left_to_it_and_gone_on_with_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadmap.training.run_queue.POLL", 0.05)
    first, second = request(tmp_path), request(tmp_path, "step=gelu")
    claim = RunLock(tmp_path, first.experiment().run_id)
    claim.take()
    freed = []

    def free_when_the_other_is_done() -> None:
        other = None
        while other is None or json.loads((other.path / "summary.json").read_text())["status"] != "finished":
            time.sleep(0.02)
            other = RunFolder.find(second.experiment())
            other = other if other and (other.path / "summary.json").exists() else None
        freed.append(time.monotonic())
        claim.free()

    thread = threading.Thread(target=free_when_the_other_is_done)
    thread.start()
    summaries, failures = carry_out([first, second])
    thread.join()
    assert [summary["variant"] for summary in summaries] == ["gelu", "resnet50"]
    assert freed
    assert not failures
