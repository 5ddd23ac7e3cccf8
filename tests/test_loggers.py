"""Weights & Biases beside the run's folder, with the real client, offline."""

from pathlib import Path

import pytest
import wandb

from roadmap.config import compose
from roadmap.execute import execute

REQUEST = ["epochs=1", "logger=wandb", "logger.mode=offline"]


def test_an_offline_run_under_our_run_id(tmp_path: Path) -> None:
    summary, folder = execute(compose([*REQUEST, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    (offline,) = (folder.path / "wandb").glob("offline-run-*")
    assert offline.name.endswith(summary["run_id"])
    assert list(offline.glob("*.wandb"))


def test_a_client_that_does_not_start_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setattr(wandb, "init", fail)
    summary, _ = execute(compose([*REQUEST, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    assert "wandb does not start (no route to host); going on with the run's own files" in capsys.readouterr().err


def test_where_metrics_go_is_not_part_of_the_runs_identity() -> None:
    assert compose(REQUEST).experiment().run_id == compose(["epochs=1"]).experiment().run_id
