"""Real faults: kills, a full disk, truncated checkpoints, unreadable images, non-finite losses."""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.augment import RandomErasing
from roadmap.errors import WorkError
from roadmap.runs.run_folder import read_metrics
from roadmap.training.build import build_trainer
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Callbacks, Trainer
from tests.faults import kill_and_resume
from tests.faults.kill_and_resume import differences, equal, run_folder, try_scenario
from tests.processes import interrupt

QUICK = ["step=separate_downsampling", "epochs=3", "batch_size=32"]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", kill_and_resume.QUICK)
def test_run_killed_at_a_random_moment_resumes_exactly(scenario: str, tmp_path: Path) -> None:
    assert try_scenario(scenario, kills=1, seed=1, work=tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("scenario", kill_and_resume.QUICK)
def test_run_killed_twenty_times_resumes_exactly(scenario: str, tmp_path: Path) -> None:
    assert try_scenario(scenario, kills=20, seed=0, work=tmp_path) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three epochs of 11 updates."""
    runs_dir = tmp_path_factory.mktemp("whole")
    run_experiment(compose([*QUICK, "recipe.ema_decay=0.9", f"runs_dir={runs_dir}"]))
    return run_folder(runs_dir)


@pytest.mark.parametrize("after", [1, 11, 32])
def test_run_stopped_after_any_update_resumes_exactly(after: int, whole: Path, tmp_path: Path) -> None:
    overrides = [*QUICK, "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after)
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert state["epoch"] * 11 + state["updates"] == after
    (folder / "checkpoints" / ".last.pt.12345").write_bytes(b"half-written")
    run_experiment(compose(overrides))
    assert differences(whole, folder) == []
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"last.pt", "previous.pt", "best.pt"}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run stopped after 16 updates, with two checkpoints."""
    runs_dir = tmp_path_factory.mktemp("halfway")
    return interrupt([*QUICK, "recipe.ema_decay=0.9", "checkpoint_minutes=0.0001", f"runs_dir={runs_dir}"], after=16)


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (lambda state: state | {"updates": state["updates"] - 1}, {"metrics.jsonl", "network"}),
        (lambda state: state | {"losses": [(state["losses"][0][0] + 1e-9, 5)]}, {"metrics.jsonl"}),
        (lambda state: state | {"ema": state["network"]}, {"metrics.jsonl", "ema"}),
        (lambda state: one_ulp_off(state), {"metrics.jsonl", "network"}),
    ],
    ids=["an update twice", "a loss of 1e-9 more", "EMA started again", "one weight one bit off"],
)
def test_comparison_of_runs_finds_small_differences(
    change: Callable[[dict], dict], noticed: set[str], whole: Path, halfway: Path, tmp_path: Path
) -> None:
    """Change a checkpoint as a wrong resume would."""
    folder = Path(shutil.copytree(halfway, tmp_path / halfway.name))
    file = folder / "checkpoints" / "last.pt"
    torch.save(change(torch.load(file, weights_only=True)), file)
    run_experiment(compose([*QUICK, "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"]))
    assert noticed <= set(differences(whole, folder))


def one_ulp_off(state: dict) -> dict:
    weight = state["network"]["head.weight"]
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
    return state


def test_damaged_checkpoint_is_replaced_by_the_previous_one(
    whole: Path, halfway: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If both are damaged, that is an error, and they are kept."""
    request = compose([*QUICK, "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"])
    folder = Path(shutil.copytree(halfway, tmp_path / halfway.name))
    last, previous = (folder / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    older = previous.read_bytes()
    previous.write_bytes(b"")
    os.truncate(last, last.stat().st_size // 2)
    with pytest.raises(WorkError, match=r"cannot read checkpoints in .*; delete them to train this run again"):
        run_experiment(request)
    assert last.exists()
    previous.write_bytes(older)
    run_experiment(request)
    assert f"cannot read checkpoint {last} (" in caplog.text
    assert "using the previous one" in caplog.text
    assert differences(whole, folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, with room for two checkpoints of a nano network but not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_run_stopped_by_a_full_disk_resumes_exactly(small_disk: Path, whole: Path) -> None:
    overrides = [*QUICK, "recipe.ema_decay=0.9", f"runs_dir={small_disk}"]
    with pytest.raises(
        WorkError, match=r"cannot write checkpoint .*; the previous one is intact: free some disk space"
    ) as error:
        run_experiment(compose(overrides))
    assert "\n" not in str(error.value)
    folder = run_folder(small_disk)
    assert torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["epoch"] >= 1
    assert not list((folder / "checkpoints").glob(".*")), "no half-written file fills the disk"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    run_experiment(compose(overrides))
    assert differences(whole, folder) == []


def test_deleted_run_folder_is_an_error(tmp_path: Path) -> None:
    def finish_epoch_without_folder(self: Trainer, row: dict) -> None:
        shutil.rmtree(run_folder(tmp_path))
        plain(self, row)

    plain = Trainer.finish_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "finish_epoch", finish_epoch_without_folder)
        with pytest.raises(WorkError, match=r"cannot write .*: No such file"):
            run_experiment(compose([*QUICK, f"runs_dir={tmp_path}"]))


@pytest.fixture
def damaged_folder(photo_folder: Path, tmp_path: Path) -> Path:
    """24 + 10 image files, of which two for training and one for evaluation are damaged."""
    root = tmp_path / "images"
    subprocess.run(["cp", "-r", str(photo_folder), str(root)], check=True)
    whole_file = (root / "train" / "china" / "3.jpg").read_bytes()
    (root / "train" / "china" / "3.jpg").write_bytes(whole_file[: len(whole_file) // 2])
    (root / "train" / "flower" / "7.jpg").write_bytes(b"")
    (root / "val" / "china" / "1.jpg").write_bytes(b"\xff\xd8 not an image")
    return root


@pytest.mark.parametrize("reading", ["num_workers=0", "num_workers=2", "in_memory=true"])
def test_unreadable_images_are_replaced_up_to_max_corrupt(
    reading: str, damaged_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = ["data=imagefolder", f"data.root={damaged_folder}", "epochs=2", "batch_size=8", "image_size=32"]
    request += ["in_memory=false", reading, "step=separate_downsampling"]
    with pytest.raises(WorkError, match=r"cannot read image .* raise data\.max_corrupt \(now 1\)"):
        run_experiment(compose([*request, "data.max_corrupt=1", f"runs_dir={tmp_path / 'one'}"]))
    caplog.clear()
    summary, folder = run_experiment(compose([*request, "data.max_corrupt=3", f"runs_dir={tmp_path / 'three'}"]))
    assert summary["corrupt_images"] == 3
    assert [Path(file).parts[-3:] for file in summary["corrupt_files"]] == [
        ("train", "china", "3.jpg"),
        ("train", "flower", "7.jpg"),
        ("val", "china", "1.jpg"),
    ]
    assert caplog.text.count("cannot read image") == 3, "one warning per image"
    # nine images are evaluated
    assert read_metrics(folder.path / "metrics.jsonl")[-1]["top1"] * 9 / 100 == pytest.approx(
        round(summary["top1"] * 9 / 100)
    )


@pytest.mark.parametrize("in_memory", ["false", "true"])
def test_unreadable_image_is_replaced_by_the_next_readable_one(in_memory: str, damaged_folder: Path) -> None:
    experiment = compose(
        [
            *("data=imagefolder", f"data.root={damaged_folder}", "data.max_corrupt=3"),
            *("batch_size=24", "image_size=32", "num_workers=0", f"in_memory={in_memory}"),
        ]
    ).experiment()
    loaders = open_loaders(experiment, torch.device("cpu"))
    ((_, labels),) = loaders.train.batches(0)
    assert torch.bincount(labels).tolist() == [12, 12]
    found = {"false": ["3.jpg", "7.jpg"], "true": ["1.jpg", "3.jpg", "7.jpg"]}[in_memory]
    assert sorted(Path(name).name for name in loaders.corrupt.found) == found


class InfiniteBatches(RandomErasing):
    """In place of random erasing: makes the batches with the given numbers (from 1) infinite."""

    def __init__(self, numbers: set[int]):
        super().__init__(0.0, 32, torch.device("cpu"))
        self.numbers, self.count = numbers, 0

    def __call__(self, images: Tensor, boxes: Tensor, chosen: Tensor | None = None) -> Tensor:
        self.count += 1
        return images * torch.inf if self.count in self.numbers else images


def trainer_with_infinite_batches(numbers: set[int], rows: list[dict], *overrides: str) -> Trainer:
    device = torch.device("cpu")
    experiment = compose([*QUICK, "epochs=1", *overrides]).experiment()
    loaders = open_loaders(experiment, device)
    train = dataclasses.replace(loaders.train, erase=InfiniteBatches(numbers))
    trainer = build_trainer(experiment, dataclasses.replace(loaders, train=train), device)
    return dataclasses.replace(trainer, callbacks=Callbacks(record=rows.append))


@pytest.mark.parametrize("overrides", [("step=resnet50", "recipe=original"), ("step=separate_downsampling",)])
def test_max_skipped_updates_with_nonfinite_loss_are_skipped(overrides: tuple[str, ...]) -> None:
    """They change nothing, to the bit, though their losses are read after the epoch."""
    rows: list[dict] = []
    words = (*overrides, "recipe.ema_decay=0.9")
    trainer = trainer_with_infinite_batches({4, 7}, rows, *words, "max_skipped_updates=2")
    trainer.losses.every = 1000
    trainer.fit()
    other = trainer_with_infinite_batches({4, 7}, [], *words)
    other.parts.network.train()
    for images, labels in other.loaders.train.batches(0):
        if images.isfinite().all():
            other.parts.update(images, labels)
        other.parts.schedule.step()
    found, expected = trainer.state_dict(), other.state_dict()
    assert found["skipped"] == 2
    for part in ("network", "ema", "optimizer", "schedule"):
        assert equal(found[part], expected[part]), part
    assert math.isfinite(rows[0]["train_loss"])


@pytest.mark.parametrize("every", [1, 1000])
def test_more_updates_with_nonfinite_loss_are_an_error(every: int) -> None:
    trainer = trainer_with_infinite_batches({4, 7}, [], "max_skipped_updates=1")
    trainer.losses.every = every
    message = r"became nan in update 7 of epoch 1 at learning rate 0\.00\d+ \(\d\.\d+ before\);"
    with pytest.raises(WorkError, match=message):
        trainer.fit()


def test_second_ctrl_c_stops_at_once() -> None:
    code = (
        "import os, signal\nfrom roadmap.runtime.stopping import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    assert stop.signal == signal.SIGINT\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in result.stderr
