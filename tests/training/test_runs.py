"""Complete runs on real images: folders, resume, errors, exit statuses."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torch._dynamo.exc import FailOnRecompileLimitHit

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import TrainLoader
from roadmap.errors import RequestError, WorkError
from roadmap.runs.run_folder import RunFolder, read_metrics
from roadmap.runtime.device import peak_memory_gb
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.many_runs import run_all
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer
from tests.processes import interrupt
from tests.records import steps_of, timeless_metrics

QUICK = ["step=separate_downsampling", "epochs=3", "batch_size=32"]


def rows(folder: Path) -> list[dict]:
    """Return a run's metrics without its times."""
    return timeless_metrics(folder / "metrics.jsonl")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["network"]


def cpu_name() -> str:
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return names[0]


def assert_same_run(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three epochs."""
    summary, folder = run_experiment(compose([*QUICK, f"runs_dir={tmp_path_factory.mktemp('runs')}"]))
    assert summary["status"] == "finished"
    return folder.path


def test_run_folder_content(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    metrics = read_metrics(finished / "metrics.jsonl")
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert summary["top1"] == metrics[-1]["top1"] > 20, "of ten classes"
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert summary["best_top1"] == max(row["top1"] for row in metrics)
    assert {"train_loss", "lr", "top5", "val_loss", "images_per_second", "seconds"} <= set(metrics[0])
    assert (summary["regime"], summary["step"], summary["data"], summary["recipe"]) == (
        "nano",
        "separate_downsampling",
        "digits",
        "enhanced",
    )
    assert summary["threads"] == torch.get_num_threads()
    assert (summary["device"], summary["device_name"].split()[0]) == ("cpu", cpu_name().split()[0])
    assert summary["gmacs"] == pytest.approx(0.002245, rel=1e-3)
    assert finished.name == f"nano-digits-separate_downsampling-s0-{summary['run_id']}"
    assert (finished / ".hydra" / "config.yaml").exists()
    assert "step=separate_downsampling" in (finished / ".hydra" / "overrides.yaml").read_text()
    assert {file.name for file in (finished / "checkpoints").iterdir()} == {"last.pt", "previous.pt", "best.pt"}


def test_eval_every_leaves_out_evaluations_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    """The last epoch is always evaluated, and the run is the same one."""
    summary, folder = run_experiment(compose([*QUICK, "eval_every=2", f"runs_dir={tmp_path}"]))
    whole = rows(finished)
    evaluation = {"top1", "top5", "val_loss"}
    assert rows(folder.path) == [{key: whole[0][key] for key in whole[0] if key not in evaluation}, *whole[1:]]
    assert summary["run_id"] in finished.name
    assert summary["top1"] == whole[2]["top1"]
    assert (summary["best_top1"], summary["evaluated_epochs"]) == (max(row["top1"] for row in whole[1:]), 2)
    with pytest.raises(RequestError, match=r"eval_every must be at least 1 \(got 0\)"):
        compose(["eval_every=0"]).experiment()


def test_only_equal_seeds_give_equal_runs(finished: Path, tmp_path: Path) -> None:
    _, again = run_experiment(compose([*QUICK, f"runs_dir={tmp_path}"]))
    assert_same_run(finished, again.path)
    _, other = run_experiment(compose([*QUICK, f"runs_dir={tmp_path}", "seed=1"]))
    assert rows(finished) != rows(other.path)
    with pytest.raises(AssertionError):
        assert_same_run(finished, other.path)


def test_finished_run_is_not_trained_again(finished: Path) -> None:
    """Also if the same design is asked for by other overrides."""
    before = (finished / "metrics.jsonl").stat().st_mtime_ns
    for words in (QUICK, [*QUICK, "norm=layer", "stem=patchify"]):
        summary, folder = run_experiment(compose([*words, f"runs_dir={finished.parent}"]))
        assert folder.path == finished
        assert summary["status"] == "finished"
    assert (finished / "metrics.jsonl").stat().st_mtime_ns == before
    with pytest.raises(RequestError, match="exists already and resume=never"):
        run_experiment(compose([*QUICK, f"runs_dir={finished.parent}", "resume=never"]))


def train_and_signal(words: list[str], sent: signal.Signals) -> None:
    """Train, and send this process a signal after its first checkpoint."""
    save = Checkpoints.save

    def save_and_signal(checkpoints: Checkpoints, *arguments: Any) -> None:
        save(checkpoints, *arguments)
        checkpoints.wait()
        Checkpoints.save = save  # type: ignore[method-assign]
        os.kill(os.getpid(), sent)

    Checkpoints.save = save_and_signal  # type: ignore[method-assign]
    sys.exit(main(["train", *words]))


@pytest.mark.parametrize(
    ("sent", "exit_code", "status"),
    [
        (signal.SIGKILL, -signal.SIGKILL, "running"),
        (signal.SIGTERM, 75, "interrupted"),
    ],
)
def test_run_resumes_exactly_after_a_signal(
    finished: Path,
    tmp_path: Path,
    sent: signal.Signals,
    exit_code: int,
    status: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = [*QUICK, f"runs_dir={tmp_path}"]
    process = multiprocessing.get_context("fork").Process(target=train_and_signal, args=(request, sent))
    process.start()
    process.join()
    assert process.exitcode == exit_code
    (folder,) = tmp_path.glob("nano-*")
    assert json.loads((folder / "summary.json").read_text())["status"] == status
    assert len(rows(folder)) == 1
    # a kill in the middle of a line would leave this
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "train_')
    run_experiment(compose(request))
    assert "resuming from epoch 1/3" in caplog.text
    assert_same_run(finished, folder)


def test_autocast_with_ema(tmp_path: Path) -> None:
    overrides = [*QUICK, "epochs=1", "precision=bf16", "recipe.ema_decay=0.9", f"runs_dir={tmp_path}"]
    summary, folder = run_experiment(compose(overrides))
    assert summary["ema_top1"] == rows(folder.path)[-1]["ema_top1"]
    assert summary["precision"] == "bf16"


def test_image_files_at_224_pixels(photo_folder: Path, tmp_path: Path) -> None:
    """Two loader workers and none give the same run."""
    request = ["step=separate_downsampling", "data=imagefolder", f"data.root={photo_folder}", "epochs=1"]
    request += ["batch_size=8", "image_size=224", "regime=nano"]
    _, with_workers = run_experiment(compose([*request, f"runs_dir={tmp_path / 'two'}", "num_workers=2"]))
    summary, without = run_experiment(compose([*request, f"runs_dir={tmp_path / 'none'}", "num_workers=0"]))
    assert_same_run(with_workers.path, without.path)
    assert (summary["train_images"], summary["val_images"], summary["num_classes"]) == (24, 10, 2)
    assert summary["top5"] == 100.0


def test_nonfinite_loss_ends_the_run(tmp_path: Path) -> None:
    request = compose(["step=resnet50", "epochs=2", "recipe.optimizer.lr=1e30", f"runs_dir={tmp_path}"])
    with pytest.raises(
        WorkError,
        match=r"the loss became (nan|inf) in update 2 of epoch 1 at learning rate 1e\+30 \(2\.\d+ before\)",
    ):
        run_experiment(request)
    (folder,) = tmp_path.glob("nano-*")
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert not (folder / "checkpoints" / "last.pt").exists()


def folder_with(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        split, label = name.split("_")
        (root / split / label).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 40), (index, 0, 0)).save(root / split / label / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"train_a": 2, "train_b": 2}, "no folder .*val; data.root must contain train/ and val/"),
        ({"train_a": 2, "train_b": 0, "val_a": 1, "val_b": 1}, "train: Found no valid file for the classes b"),
        ({"train_a": 2, "train_b": 2, "val_a": 1}, "'b' exists only in .*train"),
        ({"train_a": 2, "train_b": 2, "val_a": 1, "val_b": 1}, "batch_size=32 is larger than the 4 training images"),
    ],
)
def test_unsuitable_class_folders_are_one_line(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    root = folder_with(tmp_path / "images", **classes)
    with pytest.raises(RequestError, match=message) as error:
        run_experiment(compose(["data=imagefolder", f"data.root={root}", f"runs_dir={tmp_path / 'runs'}"]))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists(), "nothing is written for an invalid request"


@pytest.mark.parametrize("text", ['{"run_id": "other"}', "{"])
def test_folder_of_another_run_is_not_touched(text: str, tmp_path: Path) -> None:
    composed = compose([*QUICK, f"runs_dir={tmp_path}"])
    folder = RunFolder.open(composed.experiment(), composed.logged_values, composed.overrides).path
    (folder / ".summary.json.123").write_text('{"run_')  # killed before the first summary
    assert RunFolder.open(composed.experiment(), composed.logged_values, composed.overrides).path == folder
    (folder / "summary.json").write_text(text)
    with pytest.raises(RequestError, match=r"summary\.json is not a readable record of run"):
        run_experiment(composed)
    assert {file.name for file in folder.iterdir()} == {".hydra", "checkpoints", "summary.json"}


def test_runs_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write .*; choose another runs_dir"):
        run_experiment(compose([*QUICK, f"runs_dir={tmp_path / 'file' / 'runs'}"]))


@pytest.mark.parametrize(
    ("place", "error", "advice", "left"),
    [
        ("build_trainer", torch.OutOfMemoryError("CUDA out of memory"), "network", []),
        (
            "Checkpoints.load",
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tr"),
            "micro_batch_size",
            ["failed"],
        ),
    ],
)
def test_out_of_memory_is_one_line(
    place: str, error: Exception, advice: str, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"roadmap.training.run.{place}", out_of_memory)
    with pytest.raises(WorkError, match=f"^the device ran out of memory; choose a smaller {advice}$"):
        run_experiment(compose([*QUICK, f"runs_dir={tmp_path}"]))
    assert [json.loads(file.read_text())["status"] for file in tmp_path.glob("*/summary.json")] == left


def test_missing_cifar_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    root = tmp_path / "deep" / "data"
    with pytest.raises(RequestError, match=r"cifar10 is not in data\.root=.* and could not be downloaded") as error:
        run_experiment(compose(["data=cifar10", f"data.root={root}", f"runs_dir={tmp_path / 'runs'}"]))
    assert "no network" in str(error.value)
    assert "cifar-10-python.tar.gz" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "norm=gn"], "roadmap: unknown norm 'gn' (choose batch or layer)\n"),
        (["train", "garbage"], "roadmap: invalid override 'garbage' (must be group=option or setting=value)\n"),
        (["train", "depthwise_position=first"], "roadmap: depthwise_position=first does not go with conv=dense"),
        (["train", "batch_size=384"], "roadmap: batch_size=384 is larger than the 358 training images of digits"),
        (["train", "device=cuda:99"], "roadmap: device=cuda:99 is not available on this machine (choose auto or cpu)"),
        (["a\n\x1bb"], "roadmap: unknown command 'a \\x1bb' (choose steps, train"),
        (["run", "seed=1"], "roadmap: seed= and step= belong to `roadmap train`"),
        (["run", "seeds=3"], "roadmap: seeds must be a list (got 3)"),
        (["compare", "nowhere"], "roadmap: no folder nowhere\n"),
        (["figure", "nowhere"], "roadmap: the following arguments are required: -o/--output"),
    ],
)
def test_exit_status_and_one_line_on_stderr(
    arguments: list[str],
    message: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.slow
def test_compiled_network_is_saved_under_plain_names(tmp_path: Path) -> None:
    _, folder = run_experiment(compose([*QUICK, "epochs=1", "compile=true", f"runs_dir={tmp_path / 'compiled'}"]))
    _, plain = run_experiment(compose([*QUICK, "epochs=1", f"runs_dir={tmp_path / 'plain'}"]))
    compiled, eager = weights(folder.path), weights(plain.path)
    assert list(compiled) == list(eager)
    for name, tensor in eager.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-2, atol=1e-3)


def test_a_run_resumed_in_another_memory_format_keeps_its_moments(tmp_path: Path) -> None:
    """Fused AdamW reads parameters and moments in one order of memory, whatever their strides."""
    words = ["step=separate_downsampling", "epochs=2", "batch_size=64"]
    interrupt([*words, "channels_last=false", f"runs_dir={tmp_path / 'resumed'}"], after=4)
    _, resumed = run_experiment(compose([*words, "channels_last=true", f"runs_dir={tmp_path / 'resumed'}"]))
    _, whole = run_experiment(compose([*words, "channels_last=false", f"runs_dir={tmp_path / 'whole'}"]))
    one, other = (torch.cat([w.flatten() for w in weights(folder.path).values()]) for folder in (resumed, whole))
    assert torch.linalg.norm(one - other) < 1e-3 * torch.linalg.norm(other)


def test_peak_memory_is_that_of_the_run_alone(tmp_path: Path) -> None:
    torch.ones(125_000_000).sum()  # 0.47 GiB
    before = peak_memory_gb(torch.device("cpu"))
    summary, _ = run_experiment(compose([*QUICK, "epochs=1", f"runs_dir={tmp_path}"]))
    assert 0.1 < summary["peak_memory_gb"] < before - 0.2


def test_speed_and_waiting_are_those_of_each_runs_own_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only these move: a batch takes 1 s to come, an update 3 s and an evaluation 100 s."""
    now = 0.0

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*words: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*words)

        return slow

    def batches(self: TrainLoader, epoch: int, first: int) -> Iterator[tuple[torch.Tensor, ...]]:
        return map(taking(1, lambda batch: batch), made(self, epoch, first))

    made = TrainLoader.batches
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(TrainLoader, "batches", batches)
    monkeypatch.setattr(Trainer, "train_step", taking(3, Trainer.train_step))
    monkeypatch.setattr(Trainer, "evaluate", taking(100, Trainer.evaluate))
    for seed in (0, 1):
        words = [*QUICK, "epochs=2", "batch_size=128", f"seed={seed}", f"runs_dir={tmp_path}"]
        summary, _ = run_experiment(compose(words))
        assert (summary["images_per_second"], summary["data_wait"]) == (128 / 4, 1 / 4)
        assert summary["train_seconds"] == 2 * (2 * 4 + 100)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """The graphs that torch.compile makes meanwhile, which are executed as they are."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        made.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    yield made
    torch.compiler.reset()


def forward_of(*words: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network of a run as training calls it, compiled."""
    experiment = compose([*words, "compile=true"]).experiment()
    device = torch.device("cpu")
    return build_trainer(experiment, open_loaders(experiment, device), device).parts.forward


@pytest.mark.slow
def test_all_seventeen_networks_of_a_process_are_compiled(graphs: list[torch.fx.GraphModule]) -> None:
    """Each as one graph. torch keeps eight compiled versions of ``Network.forward``."""
    images, count = torch.randn(2, 3, 32, 32), {}
    for step in steps_of("nano"):
        forward, before = forward_of(f"step={step.name}", "precision=bf16"), len(graphs)
        for _ in range(2):
            forward(images).sum().backward()
        count[step.name] = len(graphs) - before
    assert list(count.values()) == [1] * 17, count


SMALL = ("design.depths=[1,1,1,1]", "precision=bf16")


def test_a_network_that_is_not_compiled_is_an_error(
    graphs: list[torch.fx.GraphModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch only warns of it, and executes the network as it is."""
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    with torch._dynamo.config.patch(recompile_limit=1):
        forward_of("step=gelu", *SMALL)(torch.randn(2, 3, 32, 32))
        with pytest.raises(FailOnRecompileLimitHit):
            forward_of("step=layer_norm", *SMALL)(torch.randn(2, 3, 32, 32))
    assert len(graphs) == 1


def test_packed_runs_keep_their_compiled_networks(graphs: list[torch.fx.GraphModule], tmp_path: Path) -> None:
    words = [*SMALL, "compile=true", "packed=2", "epochs=1", "batch_size=128", f"runs_dir={tmp_path}"]
    with torch._dynamo.config.patch(recompile_limit=1):
        _, failures = run_all([compose([f"step={step}", *words]) for step in ("gelu", "layer_norm")])
    assert (len(graphs), failures) == (2, [])
