"""Several runs as branches of one process: each is the run alone, whatever becomes of the others."""

import gc
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from roadmap.config.compose import Composed, compose
from roadmap.data import memory
from roadmap.errors import RequestError, StoppedError
from roadmap.runs.run_folder import RunFolder, read_metrics
from roadmap.training.many_runs import run_all
from roadmap.training.packed import check_packed
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer
from tests.faults.kill_and_resume import differences

# EMA, MixUp, CutMix, stochastic depth and erasing; two micro batches
RANDOM = ["step=separate_downsampling", "recipe.ema_decay=0.9", "recipe.network.stochastic_depth=0.2"]
QUICK = ["epochs=2", "eval_every=2", "batch_size=128", "micro_batch_size=64", "data.holdout=0.2"]


def requests(runs_dir: Path, *words: str) -> list[Composed]:
    first, second = (compose([*RANDOM, *QUICK, f"seed={seed}", f"runs_dir={runs_dir}", *words]) for seed in (0, 1))
    return [first, compose(["step=resnet50", *QUICK, "epochs=1", f"runs_dir={runs_dir}", *words]), second]


def folder_of(request: Composed) -> Path:
    folder = RunFolder.find(request.experiment())
    assert folder is not None
    return folder.path


def summary_of(request: Composed) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder_of(request) / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [run_experiment(one)[1].path for one in requests(tmp_path_factory.mktemp("alone"))]


def assert_same(runs: list[Composed], alone: list[Path]) -> None:
    for run, single in zip(runs, alone, strict=True):
        assert differences(folder_of(run), single) == []


def test_packed_runs_equal_runs_alone(tmp_path: Path, alone: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs in two places; whoever trains an update is seen, so that runs that do not alternate fail."""
    turns: list[int] = []
    train_step = Trainer.train_step

    def seen(self: Trainer, batches: Any) -> None:
        turns.append(id(self))
        train_step(self, batches)

    monkeypatch.setattr(Trainer, "train_step", seen)
    runs = requests(tmp_path, "packed=2")
    summaries, failures = run_all(runs)
    assert (len(summaries), failures) == (3, [])
    assert turns[0] == turns[2] != turns[1] == turns[3]
    assert_same(runs, alone)
    for run in runs:
        summary = summary_of(run)
        assert (summary["packed"], summary["images_per_second"], summary["peak_memory_gb"]) == (2, None, None)


def test_branches_share_the_images_and_free_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_images = memory.read_images

    def counted(data: Any, image_size: int) -> Any:
        read.append(data.name)
        return read_images(data, image_size)

    monkeypatch.setattr(memory, "read_images", counted)
    others = set(memory._shared)
    run_all([compose([*QUICK, "epochs=1", f"seed={seed}", f"runs_dir={tmp_path}", "packed=3"]) for seed in range(3)])
    assert read == ["digits"]
    gc.collect()
    assert set(memory._shared) <= others


def test_failed_branch_leaves_the_others_running(tmp_path: Path, alone: list[Path]) -> None:
    runs = requests(tmp_path, "packed=3")
    bad = compose([*QUICK, "recipe.optimizer.lr=1e30", f"runs_dir={tmp_path}", "packed=3"])
    summaries, ((label, error),) = run_all([bad, *runs], retries=1)
    assert len(summaries) == 3
    assert "recipe.optimizer.lr=1e30" in label
    assert "the loss became" in str(error)
    assert_same(runs, alone)


def test_out_of_memory_in_one_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step, steps = Trainer.train_step, 0

    def out_of_memory(self: Trainer, batches: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        train_step(self, batches)

    monkeypatch.setattr(Trainer, "train_step", out_of_memory)
    runs = requests(tmp_path, "packed=2")[::2]
    summaries, ((_, error),) = run_all(runs)
    assert [summary["seed"] for summary in summaries] == [1]
    assert "ran out of memory" in str(error)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Trainer]


def test_stop_saves_every_branch_which_then_resumes_alone(
    tmp_path: Path, alone: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, steps = Trainer.train_step, 0

    def stopped(self: Trainer, batches: Any) -> None:
        nonlocal steps
        train_step(self, batches)
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    runs = requests(tmp_path, "packed=3")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stopped)
        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            run_all(runs)
    assert steps == 4
    for run in runs:
        assert summary_of(run)["status"] == "interrupted"
        assert torch.load(folder_of(run) / "checkpoints" / "last.pt", weights_only=True)["updates"] in (1, 2)
    for run in requests(tmp_path):
        run_experiment(run)
    assert_same(runs, alone)


def test_branches_of_a_command_that_ends_are_recorded_as_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a second Ctrl-C, which only one of them can notice."""
    train_step, steps = Trainer.train_step, 0

    def ended(self: Trainer, batches: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        train_step(self, batches)

    monkeypatch.setattr(Trainer, "train_step", ended)
    runs = requests(tmp_path, "packed=2")[:2]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs)
    assert [summary_of(run)["status"] for run in runs] == ["interrupted", "interrupted"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["packed=0"], r"^packed must be at least 1 \(got 0\)$"),
        (["packed=2", "logger=wandb"], r"^packed=2 does not go with logger=wandb, .*\(choose packed=1, or workers="),
        (
            ["packed=2", "FILES"],
            r"^packed=2 needs images in memory, not the files of data=imagefolder \(choose packed=1",
        ),
    ],
)
def test_what_cannot_be_packed_is_one_sentence(
    words: list[str], message: str, tmp_path: Path, photo_folder: Path
) -> None:
    files = ["data=imagefolder", f"data.root={photo_folder}", "batch_size=8", "in_memory=false"]
    words = [one for word in words for one in (files if word == "FILES" else [word])]
    with pytest.raises(RequestError, match=message):
        run_all([compose([*words, f"seed={seed}", f"runs_dir={tmp_path / 'runs'}"]) for seed in (0, 1)])
    assert not (tmp_path / "runs").exists()


def test_packed_does_not_go_with_torchrun() -> None:
    with pytest.raises(RequestError, match=r"^packed=2 does not go with torchrun, "):
        check_packed(2, 2, compose([]).experiment().logger)


def test_times_of_a_branch_are_those_of_its_own_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the updates of the trainers move, by one second each."""
    from roadmap.data import loaders
    from roadmap.training import trainer

    now, train_step = 0.0, Trainer.train_step

    def ticking(self: Trainer, batches: Any) -> None:
        nonlocal now
        train_step(self, batches)
        now += 1

    for module in (loaders, trainer):
        monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Trainer, "train_step", ticking)
    runs = [compose([*QUICK, "epochs=1", f"seed={s}", f"runs_dir={tmp_path}", "packed=3"]) for s in range(3)]
    run_all(runs)
    assert now == 6
    assert [read_metrics(folder_of(run) / "metrics.jsonl")[0]["train_seconds"] for run in runs] == [2, 2, 2]
