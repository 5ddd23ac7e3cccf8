"""Real faults: a kill, a disk that fills up, a truncated file, images that are none, losses that are no numbers."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.errors import WorkError
from roadmap.runs.run_folder import read_metrics
from roadmap.runtime.distributed import ALONE
from roadmap.runtime.stopping import StopRequest
from roadmap.training.build import build_trainer
from roadmap.training.run import execute
from roadmap.training.trainer import Trainer
from tests.faults import kill_and_resume
from tests.faults.kill_and_resume import differences, run_folder, try_scenario

QUICK = ["step=separate_downsampling", "epochs=3", "batch_size=32"]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", kill_and_resume.QUICK)
def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(scenario: str, tmp_path: Path) -> None:
    """One kill each; `python tests/faults/kill_and_resume.py` sends twenty."""
    assert try_scenario(scenario, kills=1, seed=1, work=tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("scenario", kill_and_resume.QUICK)
def test_killed_twenty_times(scenario: str, tmp_path: Path) -> None:
    assert try_scenario(scenario, kills=20, seed=0, work=tmp_path) == []


def interrupt(overrides: list[str], after: int) -> Path:
    """Train until ``after`` updates are done, as a signal then would; the run's folder."""
    import signal

    from roadmap.errors import StoppedError

    done = 0

    def tell(self: Trainer, losses: list[Tensor]) -> None:
        nonlocal done
        plain(self, losses)
        done += 1
        if done == after:
            os.kill(os.getpid(), signal.SIGUSR1)

    plain = Trainer.update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", tell)
        with pytest.raises(StoppedError, match="stopped by SIGUSR1"):
            execute(compose(overrides))
    (runs_dir,) = (word.removeprefix("runs_dir=") for word in overrides if word.startswith("runs_dir="))
    return run_folder(Path(runs_dir))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs of 11 updates, undisturbed."""
    runs_dir = tmp_path_factory.mktemp("whole")
    execute(compose([*QUICK, "recipe.ema_decay=0.9", f"runs_dir={runs_dir}"]))
    return run_folder(runs_dir)


@pytest.mark.parametrize(
    "after", [1, pytest.param(10, marks=pytest.mark.long), 11, pytest.param(12, marks=pytest.mark.long), 32]
)
def test_stopped_after_any_update_a_run_goes_on_exactly_there(after: int, whole: Path, tmp_path: Path) -> None:
    overrides = [*QUICK, "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after)
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert state["epoch"] * 11 + state["updates"] == after
    assert state["ema"]["n_averaged"] == after
    execute(compose(overrides))
    assert differences(whole, folder) == []


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        pytest.param(
            lambda state: state | {"updates": state["updates"] - 1},
            {"metrics.jsonl", "network"},
            marks=pytest.mark.long,
        ),
        (lambda state: state | {"losses": [(state["losses"][0][0] + 1e-9, 5)]}, {"metrics.jsonl"}),
        (lambda state: state | {"ema": {**state["ema"], "n_averaged": torch.tensor(0)}}, {"metrics.jsonl", "ema"}),
        (lambda state: one_ulp_off(state), {"metrics.jsonl", "network"}),
    ],
    ids=["an update twice", "a loss of 1e-9 more", "an average begun anew", "one weight one bit off"],
)
def test_the_comparison_can_fail(
    change: Callable[[dict], dict], noticed: set[str], whole: Path, tmp_path: Path
) -> None:
    """What a resume might get wrong is put into its checkpoint: the comparison must find it."""
    overrides = [*QUICK, "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after=16)
    file = folder / "checkpoints" / "last.pt"
    torch.save(change(torch.load(file, weights_only=True)), file)
    execute(compose(overrides))
    assert noticed <= set(differences(whole, folder))


def one_ulp_off(state: dict) -> dict:
    weight = state["network"]["head.weight"]
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
    return state


def test_a_truncated_checkpoint_gives_way_to_the_one_before(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = [*QUICK, "recipe.ema_decay=0.9", "checkpoint_minutes=0.0001", f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after=16)
    last, previous = (folder / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    assert torch.load(previous, weights_only=True)["updates"] < torch.load(last, weights_only=True)["updates"]
    os.truncate(last, last.stat().st_size // 2)
    execute(compose(overrides))
    error = caplog.text
    assert f"checkpoint {last} cannot be read (" in error
    assert "continuing from the one before" in error
    assert differences(whole, folder) == []


def test_two_damaged_checkpoints_are_named_and_left_alone(tmp_path: Path) -> None:
    overrides = [*QUICK, "checkpoint_minutes=0.0001", f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after=16)
    for name in ("last", "previous"):
        (folder / "checkpoints" / f"{name}.pt").write_bytes(b"")
    with pytest.raises(WorkError, match=r"cannot read checkpoint .*; delete it to train this run anew"):
        execute(compose(overrides))
    assert (folder / "checkpoints" / "last.pt").exists()


def test_half_written_files_of_a_kill_are_swept_away(tmp_path: Path) -> None:
    overrides = [*QUICK, f"runs_dir={tmp_path}"]
    folder = interrupt(overrides, after=5)
    (folder / "checkpoints" / ".last.pt.12345").write_bytes(b"half")
    execute(compose(overrides))
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"last.pt", "previous.pt", "best.pt"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB: room for two checkpoints of a nano network and not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_a_run_with_a_sentence_and_room_lets_it_go_on(small_disk: Path, whole: Path) -> None:
    overrides = [*QUICK, "recipe.ema_decay=0.9", f"runs_dir={small_disk}"]
    with pytest.raises(WorkError, match=r"cannot write checkpoint .*; the one before is intact: make room") as error:
        execute(compose(overrides))
    assert "\n" not in str(error.value)
    folder = run_folder(small_disk)
    assert torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["epoch"] >= 1
    assert not list((folder / "checkpoints").glob(".*")), "nothing half written is left to fill the disk"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    execute(compose(overrides))
    assert differences(whole, folder) == []


def test_a_disk_too_full_for_a_line_of_metrics(small_disk: Path, whole: Path) -> None:
    """Not even the summary can be written then; what was logged before is whole."""
    overrides = [*QUICK, "recipe.ema_decay=0.9", "checkpoint_epochs=100", f"runs_dir={small_disk}"]

    def fill(self: Trainer, row: dict) -> None:
        with open(small_disk / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        plain(self, row)

    plain = Trainer.finish_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "finish_epoch", fill)
        with pytest.raises(WorkError, match=r"cannot write .*: No space left on device"):
            execute(compose(overrides))
    (small_disk / "ballast").unlink()
    folder = run_folder(small_disk)
    assert json.loads((folder / "summary.json").read_text())["status"] == "running"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    execute(compose(overrides))
    assert differences(whole, folder) == []


def test_a_folder_taken_away_is_one_sentence(tmp_path: Path) -> None:
    def take(self: Trainer, row: dict) -> None:
        shutil.rmtree(run_folder(tmp_path))
        plain(self, row)

    plain = Trainer.finish_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "finish_epoch", take)
        with pytest.raises(WorkError, match=r"cannot write .*: No such file"):
            execute(compose([*QUICK, f"runs_dir={tmp_path}"]))


@pytest.fixture
def spoilt_folder(photo_folder: Path, tmp_path: Path) -> Path:
    """24 + 10 images, of which two to train on and one to evaluate are none."""
    root = tmp_path / "images"
    subprocess.run(["cp", "-r", str(photo_folder), str(root)], check=True)
    whole_file = (root / "train" / "china" / "3.jpg").read_bytes()
    (root / "train" / "china" / "3.jpg").write_bytes(whole_file[: len(whole_file) // 2])
    (root / "train" / "flower" / "7.jpg").write_bytes(b"")
    (root / "val" / "china" / "1.jpg").write_bytes(b"\xff\xd8 not an image")
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_up_to_the_limit_and_counted(
    workers: int, spoilt_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = ["data=imagefolder", f"data.root={spoilt_folder}", "epochs=2", "batch_size=8", "image_size=32"]
    request += [f"num_workers={workers}", "step=separate_downsampling"]
    with pytest.raises(WorkError, match=r"cannot read image .*\.jpg, after 1 others,.* more than data\.max_corrupt=1"):
        execute(compose([*request, "data.max_corrupt=1", f"runs_dir={tmp_path / 'one'}"]))
    caplog.clear()
    summary, folder = execute(compose([*request, "data.max_corrupt=3", f"runs_dir={tmp_path / 'three'}"]))
    assert summary["corrupt_images"] == 3
    assert [Path(file).parts[-3:] for file in summary["corrupt_files"]] == [
        ("train", "china", "3.jpg"),
        ("train", "flower", "7.jpg"),
        ("val", "china", "1.jpg"),
    ]
    error = caplog.text
    assert error.count("cannot read image") == 3, "each is named once, not in every epoch"
    # nine images are evaluated, none of them twice
    assert read_metrics(folder.path / "metrics.jsonl")[-1]["top1"] * 9 / 100 == pytest.approx(
        round(summary["top1"] * 9 / 100)
    )


def test_an_image_in_the_place_of_a_corrupt_one_is_the_next_readable(spoilt_folder: Path) -> None:
    experiment = compose(
        [
            *("data=imagefolder", f"data.root={spoilt_folder}", "data.max_corrupt=3"),
            *("batch_size=24", "image_size=32", "num_workers=0"),
        ]
    ).experiment()
    loaders = open_loaders(experiment, torch.device("cpu"))
    ((_, labels),) = loaders.train.batches(0)
    assert torch.bincount(labels).tolist() == [12, 12]
    assert sorted(Path(name).name for name in loaders.corrupt.found) == ["3.jpg", "7.jpg"]


class Planted:
    """Erases nothing, and makes the batches with given numbers infinite."""

    def __init__(self, spoilt: set[int]):
        self.spoilt, self.count = spoilt, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.count += 1
        return images * torch.inf if self.count in self.spoilt else images


def planted_trainer(spoilt: set[int], *overrides: str) -> Trainer:
    device = torch.device("cpu")
    experiment = compose([*QUICK, "epochs=1", *overrides]).experiment()
    loaders = open_loaders(experiment, device)
    loaders = dataclasses.replace(loaders, train=dataclasses.replace(loaders.train, erase=Planted(spoilt)))
    return build_trainer(experiment, loaders, device, ALONE, StopRequest())


def test_a_loss_that_is_no_number_names_update_learning_rate_and_the_loss_before() -> None:
    trainer = planted_trainer({4})
    with pytest.raises(
        WorkError, match=r"became nan in update 4 of epoch 1 at learning rate 0\.00\d+, the one before was \d\.\d+"
    ):
        trainer.fit()


def test_updates_are_skipped_as_often_as_asked(tmp_path: Path) -> None:
    """The weights are those of a run without these updates' steps; the schedule goes on."""
    trainer = planted_trainer({4, 7}, "max_skipped_updates=2", "recipe.ema_decay=0.9")
    rows: list[dict] = []
    trainer.record = rows.append
    trainer.fit()
    assert trainer.skipped == 2
    assert trainer.state()["skipped"] == 2
    assert trainer.ema is not None
    assert trainer.ema.n_averaged == 11 - 2
    assert torch.isfinite(torch.tensor(rows[0]["train_loss"]))
    assert trainer.schedule.last_epoch == 11
    again = planted_trainer({4, 7}, "max_skipped_updates=1")
    with pytest.raises(WorkError, match="update 7 of epoch 1"):
        again.fit()


def test_a_second_ctrl_c_does_not_wait_for_the_update() -> None:
    code = (
        "import os, signal, time\nfrom roadmap.runtime.stopping import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    assert stop.signal == signal.SIGINT\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in result.stderr
