"""Checkpoints written by a thread: what they hold, and where an error of theirs is raised."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from roadmap.errors import WorkError
from roadmap.training import checkpoint
from roadmap.training.checkpoint import Checkpoints


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that writes nothing until the event is set."""
    ready, save = threading.Event(), torch.save

    def save_when_ready(*arguments: Any) -> None:
        ready.wait()
        save(*arguments)

    monkeypatch.setattr(torch, "save", save_when_ready)
    yield ready
    ready.set()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, slow_disk: threading.Event) -> None:
    """It holds the state at the time of the call; half-written files have another name."""
    state = {"network": {"weight": torch.zeros(4, 3).t()}, "optimizer": [{"step": torch.tensor(1.0)}], "epoch": 1}
    with Checkpoints(tmp_path, "run") as checkpoints:
        checkpoints.save(state, True)
        state["network"]["weight"] += 1  # type: ignore[index]
        state["optimizer"][0]["step"] += 1  # type: ignore[index]
        assert not checkpoints.last.exists()
        slow_disk.set()
        checkpoints.wait()
        saved = checkpoints.load(torch.device("cpu"))
        assert saved is not None
        assert torch.equal(saved["network"]["weight"], torch.zeros(3, 4))
        assert saved["network"]["weight"].stride() == (1, 3)
        assert saved["optimizer"][0]["step"] == 1
        assert (saved["epoch"], saved["run_id"]) == (1, "run")
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", "best.pt"}


def test_the_end_of_a_run_waits_for_its_checkpoint(tmp_path: Path, slow_disk: threading.Event) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    threads = threading.active_count()

    def fail() -> None:
        with checkpoints:
            checkpoints.save({"epoch": 1}, False)
            slow_disk.set()
            raise WorkError("an error of another kind")

    with pytest.raises(WorkError, match="of another kind"):
        fail()
    assert checkpoints.last.exists()
    assert threading.active_count() == threads


@pytest.mark.parametrize("later", ["save", "wait"])
def test_write_error_is_raised_by_the_next_save_or_at_the_end(
    later: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before stays."""

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path, "run") as checkpoints:
        checkpoints.save({"epoch": 1}, False)
        checkpoints.wait()
        monkeypatch.setattr(checkpoint.os, "fsync", full)
        checkpoints.save({"epoch": 2}, True)
        with pytest.raises(
            WorkError, match=r"cannot write checkpoint .*: No space left on device; the previous one is"
        ):
            checkpoints.save({"epoch": 3}, False) if later == "save" else checkpoints.wait()
        checkpoints.wait()  # said once
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt"}
    assert torch.load(tmp_path / "last.pt")["epoch"] == 1
