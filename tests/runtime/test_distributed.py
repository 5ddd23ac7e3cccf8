"""Several processes with gloo: updates equal to one process's, exact evaluation, a process that dies."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig
from torch.nn.parallel import DistributedDataParallel

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import DistributedBatchSampler
from roadmap.errors import RequestError, StoppedError, WorkError
from roadmap.runtime import distributed
from roadmap.runtime.distributed import init_processes
from roadmap.training import build
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Callbacks, Trainer, TrainerSettings
from tests.processes import free_port, in_processes, train_in
from tests.records import timeless_metrics
from tests.training.test_trainer import CPU, small_loaders, small_parts

ROOT = Path(__file__).parents[2]
LAYER_NORM = ["step=separate_downsampling", "epochs=1", "batch_size=32", "recipe.batch_norm_images=16"]
# the noise of erased boxes is drawn per micro batch
PLAIN = [*LAYER_NORM, "recipe.augment.random_erasing=0"]


def folder(runs_dir: Path) -> Path:
    (found,) = runs_dir.glob("nano-*")
    return found


def weights(runs_dir: Path, part: str = "network") -> dict[str, torch.Tensor]:
    return torch.load(folder(runs_dir) / "checkpoints" / "last.pt", weights_only=True)[part]


def rows(runs_dir: Path) -> list[dict]:
    return timeless_metrics(folder(runs_dir) / "metrics.jsonl")


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], rtol: float, atol: float) -> None:
    assert list(one) == list(other)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


def test_two_processes_equal_one_process_with_two_accumulation_steps(tmp_path: Path) -> None:
    """With augmentation: the random numbers of a micro batch do not depend on its process."""
    request = [*LAYER_NORM, "micro_batch_size=16", "recipe.ema_decay=0.9", "recipe.network.stochastic_depth=0.2"]
    assert train_in(2, [*request, f"runs_dir={tmp_path / 'two'}"]) == [0, 0]
    run_experiment(compose([*request, f"runs_dir={tmp_path / 'one'}"]))
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=1e-4, atol=1e-5)
    assert_close(weights(tmp_path / "one", "ema"), weights(tmp_path / "two", "ema"), rtol=1e-4, atol=1e-5)
    (one,), (two,) = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-6)
    assert one["val_loss"] == pytest.approx(two["val_loss"], rel=1e-5)
    assert (one["top1"], one["ema_top1"]) == pytest.approx((two["top1"], two["ema_top1"]), abs=0.2)


# BN amplifies rounding, at the recipe's own learning rate a thousandfold in each update
BATCH_NORM = ["step=kernel_7", "recipe=original", "recipe.optimizer.lr=0.0001"]
BATCH_NORM += ["recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.crop_aspect=[1.0,1.0]"]


@pytest.mark.parametrize("words", [[], BATCH_NORM])
def test_two_processes_and_two_steps_equal_the_whole_batch(words: list[str], tmp_path: Path) -> None:
    """Without BN and with it: weights and running statistics."""
    request = [*PLAIN, *words]
    assert train_in(2, [*request, f"runs_dir={tmp_path / 'two'}"]) == [0, 0]
    run_experiment(compose([*request, f"runs_dir={tmp_path / 'whole'}"]))
    run_experiment(compose([*request, "micro_batch_size=16", f"runs_dir={tmp_path / 'parts'}"]))
    # AdamW's first update divides a gradient by its own size, which amplifies rounding to the fourth digit
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "two"), rtol=1e-3, atol=5e-4)
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "parts"), rtol=1e-3, atol=5e-4)
    other = "recipe.batch_norm_images=32" if words else "batch_size=16"
    run_experiment(compose([*request, other, f"runs_dir={tmp_path / 'other'}"]))
    with pytest.raises(AssertionError):
        assert_close(weights(tmp_path / "whole"), weights(tmp_path / "other"), rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize("in_memory", ["false", "true"])
def test_three_processes_evaluate_each_of_ten_images_once(in_memory: str, photo_folder: Path, tmp_path: Path) -> None:
    """Ten images, three processes, batches of two."""
    request = ["data=imagefolder", f"data.root={photo_folder}", "batch_size=6", "image_size=32", "epochs=1"]
    request += [
        f"in_memory={in_memory}",
        "step=separate_downsampling",
        "num_workers=0",
        "recipe.batch_norm_images=2",
        "recipe.augment.random_erasing=0",
    ]
    assert train_in(3, [*request, f"runs_dir={tmp_path / 'three'}"]) == [0, 0, 0]
    run_experiment(compose([*request, f"runs_dir={tmp_path / 'one'}"]))
    (one,), (three,) = rows(tmp_path / "one"), rows(tmp_path / "three")
    assert three["val_loss"] == pytest.approx(one["val_loss"], rel=1e-5)
    assert three["top1"] == one["top1"]
    assert three["top1"] * 10 / 100 == pytest.approx(round(three["top1"] * 10 / 100)), "each image is 10 %"


def test_update_has_the_same_images_however_the_batch_is_split() -> None:
    def updates(micro: int, processes: int, epoch: int, first: int = 0) -> list[list[int]]:
        shares = [DistributedBatchSampler(101, 24, micro, 7, rank, processes) for rank in range(processes)]
        taken: list[list[int]] = [[] for _ in range(shares[0].updates)]
        for share in shares:
            for number in share.numbers(first):
                images = share.order(epoch)[share.positions(number)]
                assert len(images) == micro
                taken[number * micro // 24] += images.tolist()
        return [sorted(images) for images in taken]

    whole = updates(24, 1, epoch=3)
    assert [len(images) for images in whole] == [24] * 4
    assert len({image for images in whole for image in images}) == 96
    assert updates(6, 1, 3) == updates(6, 2, 3) == updates(6, 4, 3) == updates(3, 8, 3) == whole
    assert updates(24, 1, epoch=4) != whole
    assert updates(6, 2, 3, first=2) == [[], [], *whole[2:]], "an epoch can start at any update"


def test_evaluation_and_checkpoint_have_the_same_batch_norm_statistics(tmp_path: Path) -> None:
    """Evaluated in one process, the saved weights give the loss that two processes logged."""
    request = ["step=kernel_7", *LAYER_NORM[1:], "recipe.ema_decay=0.5"]
    assert train_in(2, [*request, f"runs_dir={tmp_path}"]) == [0, 0]
    (row,) = rows(tmp_path)
    experiment = compose([*request, f"runs_dir={tmp_path}"]).experiment()
    device = torch.device("cpu")
    trainer = build.build_trainer(experiment, open_loaders(experiment, device), device)
    trainer.parts.network.load_state_dict(weights(tmp_path))
    assert trainer.parts.ema is not None
    trainer.parts.ema.network.load_state_dict(weights(tmp_path, "ema"))
    again = trainer.evaluate()
    assert again["val_loss"] == pytest.approx(row["val_loss"], rel=1e-5)
    assert again["ema_val_loss"] == pytest.approx(row["ema_val_loss"], rel=1e-5)
    summary = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert (summary["processes"], summary["micro_batch_size"], summary["batch_norm_images"]) == (2, 16, 16)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["batch_size=48"],
            "2 processes cannot share batch_size=48 in whole groups of recipe.batch_norm_images=16 (their number",
        ),
        (
            ["recipe=finetune_22k_224", "batch_size=33"],
            "batch_size=33 must be a multiple of the number of processes, 2",
        ),
    ],
)
def test_invalid_settings_are_an_error_in_every_process(
    overrides: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train_in(2, [*LAYER_NORM, *overrides, f"runs_dir={tmp_path / 'runs'}"]) == [2, 2]
    assert message in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_failed_join_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(free_port())
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=1))
    with pytest.raises(
        WorkError, match=rf"rank 1 of 2 cannot join the other processes at 127\.0\.0\.1:{port}: .*timed out"
    ) as error:
        distributed.init_processes(torch.device("cpu"))
    assert "\n" not in str(error.value)


def torchrun(program: list[str], *words: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    launcher += ["--max-restarts=1", "--monitor-interval=0.1"]
    return [sys.executable, *launcher, *program, "train", *LAYER_NORM, "checkpoint_minutes=0.001", *words]


# rank 1 kills itself in update 16, unless torchrun has restarted it
KILL_RANK_1 = """
import os, signal, sys
from roadmap.__main__ import main
from roadmap.training.trainer import Trainer
train_step = Trainer.train_step
def train_step_or_die(self, batches):
    if (self.state.epoch, self.state.updates) == (1, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    train_step(self, batches)
if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    Trainer.train_step = train_step_or_die
sys.exit(main(sys.argv[1:]))
"""


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_killed_process_ends_the_others_and_torchrun_restarts_all(tmp_path: Path) -> None:
    """The restarted run equals an uninterrupted one."""
    program = tmp_path / "kill_rank_1.py"
    program.write_text(KILL_RANK_1)
    command = torchrun([str(program)], "epochs=2", f"runs_dir={tmp_path / 'killed'}")
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert "another process of this run has ended" in done.stderr
    assert "resuming from epoch 1/2" in done.stderr
    assert train_in(2, [*LAYER_NORM, "epochs=2", f"runs_dir={tmp_path / 'whole'}"]) == [0, 0]
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "killed"), rtol=0, atol=0)
    assert done.stdout.count("top-1") == 1, "only rank 0 prints the result"


@pytest.mark.slow
@pytest.mark.parametrize("files", [False, True])
def test_sigterm_stops_all_processes_at_the_same_update(files: bool, photo_folder: Path, tmp_path: Path) -> None:
    """torchrun signals the group of each process, to which workers of the data loader belong unless they leave it."""
    words = ["data=imagefolder", f"data.root={photo_folder}", "batch_size=8", "image_size=32", "num_workers=1"]
    words += ["in_memory=false", "recipe.batch_norm_images=4"]
    process = subprocess.Popen(
        torchrun(["-m", "roadmap"], "epochs=200", f"runs_dir={tmp_path}", *(words if files else [])),
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    while not list(tmp_path.glob("*/checkpoints/last.pt")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert "roadmap: stopped by SIGTERM after update" in err
    assert json.loads((folder(tmp_path) / "summary.json").read_text())["status"] == "interrupted"


def test_error_of_one_process_is_raised_in_all_and_recorded(
    photo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One process reads an unreadable image."""
    root = tmp_path / "images"
    subprocess.run(["cp", "-r", str(photo_folder), str(root)], check=True)
    (root / "train" / "china" / "3.jpg").write_bytes(b"no image")
    request = ["data=imagefolder", f"data.root={root}", "batch_size=24", "image_size=32", "epochs=1", "num_workers=0"]
    request += ["in_memory=false"]
    request += ["recipe.batch_norm_images=12"]
    assert train_in(2, [*request, f"runs_dir={tmp_path / 'runs'}"]) == [1, 1]
    summary = json.loads((folder(tmp_path / "runs") / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "china/3.jpg" in summary["error"]


def trainer_of_two(batch_size: int, epochs: int, **callbacks: Any) -> Trainer:
    """This process's half of a small trainer, with micro batches of one image."""
    world, loaders, parts = init_processes(CPU), small_loaders(), small_parts()
    share = DistributedBatchSampler(10, batch_size, 1, 0, world.rank, 2)
    forward = DistributedDataParallel(parts.network)
    parts = replace(parts, forward=forward, no_sync=forward.no_sync)
    loaders = replace(loaders, train=replace(loaders.train, share=share))
    return Trainer(parts, loaders, TrainerSettings(epochs), CPU, world, callbacks=Callbacks(**callbacks))


def told(folder: Path) -> list[dict[str, Any]]:
    """What each process wrote."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_loader_that_fails_within_an_update_ends_all_processes(tmp_path: Path) -> None:
    """Two updates of two micro batches an epoch; the sixth micro batch of one process fails, nothing is saved later."""

    def work() -> None:
        steps: list[int] = []
        saved: list[int] = []
        trainer = trainer_of_two(4, 3, on_step=lambda *step: steps.append(step[1]), save=lambda s, _: saved.append(1))
        if trainer.world.rank == 1:
            taken, source = itertools.count(1), trainer.loaders.train.source
            batches = source.batches

            def failing(*words: Any) -> Iterator[Any]:
                for batch in batches(*words):
                    if next(taken) == 6:
                        raise WorkError("cannot read image 6")
                    yield batch

            source.batches = failing  # type: ignore[method-assign]
        with pytest.raises(WorkError) as error:
            trainer.fit()
        found = {"error": str(error.value), "all": error.value.on_all_ranks, "steps": steps, "saved": len(saved)}
        (tmp_path / f"{trainer.world.rank}.json").write_text(json.dumps(found))

    assert in_processes(2, work) == [0, 0]
    # the update goes on without the image, as does the next one; the epoch's end waits for all
    assert told(tmp_path) == [{"error": "cannot read image 6", "all": True, "steps": [1, 2, 1, 2], "saved": 1}] * 2


def test_processes_agree_after_an_update_on_what_they_knew_before_it(tmp_path: Path) -> None:
    """A signal in one of them stops both one update later; within an epoch none waits but for the gradients."""

    def work() -> None:
        calls: list[bool] = []
        states: list[int] = []
        reduce = torch.distributed.all_reduce

        def counted(*words: Any, async_op: bool = False) -> Any:
            calls.append(async_op)
            return reduce(*words, async_op=async_op)

        def on_step(epoch: int, update: int, updates: int) -> None:
            asked.append(calls.copy())
            calls.clear()
            if update == 2 and trainer.world.rank == 1:
                trainer.stop.note(signal.SIGTERM, None)

        asked: list[list[bool]] = []
        trainer = trainer_of_two(2, 3, on_step=on_step, save=lambda state, _: states.append(state["updates"]))
        trainer.parts.network.state_dict()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "all_reduce", counted)
            with pytest.raises(StoppedError) as error:
                trainer.fit()
        found = {"error": str(error.value), "calls": asked[1:], "updates": states}
        (tmp_path / f"{trainer.world.rank}.json").write_text(json.dumps(found))

    assert in_processes(2, work) == [0, 0]
    expected = {"error": "stopped by SIGTERM after update 3 of epoch 1", "calls": [[True], [True]], "updates": [3]}
    assert [one | {"error": one["error"][:44]} for one in told(tmp_path)] == [expected] * 2


def test_a_loss_of_nan_in_one_process_is_skipped_in_all(tmp_path: Path) -> None:
    """Of the four micro batches of an epoch, rank 1's third one: its second update."""

    def work() -> None:
        rows: list[dict[str, Any]] = []
        trainer = trainer_of_two(4, 3, record=rows.append)
        trainer.settings = replace(trainer.settings, max_skipped=1)
        trainer.losses.max_skipped = 1
        taken, loss = itertools.count(1), trainer.parts.loss

        def spoilt(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return loss(logits, targets) * (torch.nan if next(taken) == 3 else 1)

        if trainer.world.rank == 1:
            trainer.parts = replace(trainer.parts, loss=spoilt)
        trainer.fit()
        weights = [value.flatten().tolist() for value in trainer.parts.network.state_dict().values()]
        found = {"weights": weights, "skipped": trainer.losses.skipped, "loss": [row["train_loss"] for row in rows]}
        (tmp_path / f"{trainer.world.rank}.json").write_text(json.dumps(found))

    assert in_processes(2, work) == [0, 0]
    first, second = told(tmp_path)
    assert first == second, "and JSON's NaN differs from itself"
    assert first["skipped"] == 1


@pytest.fixture
def group_of_one() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_processes_exchange_gradients_and_no_buffers(group_of_one: None) -> None:
    """Gradients are views of the buckets that are summed: nothing is copied, and nothing sent before a pass."""
    experiment = compose(["step=resnet50", *LAYER_NORM[1:]]).experiment()
    world = distributed.World(0, 2)
    loaders = open_loaders(experiment, CPU, world)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch 2.13 has another name for the second setting
        forward = build.build_trainer(experiment, loaders, CPU, world).parts.forward
    assert isinstance(forward, DistributedDataParallel)
    assert forward.gradient_as_bucket_view
    assert not (forward.forward_sync_buffers if hasattr(forward, "forward_sync_buffers") else forward.broadcast_buffers)


@pytest.mark.parametrize("experiment", ["imagenet_tiny", "imagenet_base"])
def test_eight_processes_at_most_share_the_first_steps_batch(experiment: str) -> None:
    """The later steps, of batch 4,096, do not have this bound."""
    first = compose([f"experiment={experiment}", "data.root=/images"]).experiment()
    assert [first.micro_batch_size(processes) for processes in (1, 2, 4, 8)] == [128, 128, 64, 32]
    sentence = (
        "16 processes cannot share batch_size=256 in whole groups of recipe.batch_norm_images=32 "
        "(their number must be 1, 2, 4 or 8, or recipe.batch_norm_images smaller)"
    )
    with pytest.raises(RequestError, match=f"^{re.escape(sentence)}$"):
        first.micro_batch_size(16)
    later = compose([f"experiment={experiment}", "data.root=/images", "step=enhanced_recipe"]).experiment()
    assert later.micro_batch_size(16) == 128


def test_batch_file_gives_torchrun_time_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than torchrun's 30 s, and less than what the signal before the time limit leaves."""
    script = (ROOT / "docs" / "roadmap.sbatch").read_text()
    ((name, value),) = re.findall(r"^export (TORCH_ELASTIC_\w+)=(\d+)$", script, flags=re.MULTILINE)
    (left,) = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", script, flags=re.MULTILINE)
    assert 30 < int(value) < int(left)
    monkeypatch.setenv(name, value)
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1)
    if not hasattr(config, "shutdown_timeout"):
        pytest.skip("before torch 2.12 torchrun always takes 30 s")
    assert config.shutdown_timeout == int(value)
