"""Whole training runs on the device: resumed, in two processes, fed from image files; and throughput."""

import gc
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.compile_fx import compile_fx

from roadmap.__main__ import main
from roadmap.bench.timing import NetworkTimer, Step, clock, interleave, make_step
from roadmap.config.compose import Composed, compose
from roadmap.data.loaders import Timed
from roadmap.runs.run_folder import RunFolder, read_metrics
from roadmap.runtime.device import reset_peak_memory
from roadmap.training.many_runs import Failures, run_all
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer
from tests.faults.kill_and_resume import differences, run_folder
from tests.gpu.conftest import GPU, SLOW_CPU
from tests.gpu.test_numerics import floats, joined
from tests.photos import make_photos
from tests.processes import interrupt
from tests.records import steps_of

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]
# two epochs of 11 updates on digits, with all of the recipe's augmentation
RUN = ("step=separate_downsampling", "epochs=2", "batch_size=32", "recipe.ema_decay=0.9")


def train(*overrides: str) -> Path:
    """The folder of a finished run."""
    return run_experiment(compose(overrides))[1].path


def distance(one: Path, other: Path) -> float:
    """How far the last checkpoints are apart relative to the size of the first: the largest of three parts."""
    states = [torch.load(run / "checkpoints" / "last.pt", "cpu", weights_only=True) for run in (one, other)]
    distances = []
    for part in ("network", "ema", "optimizer"):
        first, second = (joined(floats(state[part])) for state in states)
        distances.append((first - second).norm() / first.norm())
    return torch.stack(distances).max().item()


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    size: tuple[str, ...], device: torch.device, tmp_path: Path
) -> None:
    """On a CPU to the bit. A GPU may add in any order: within 1 %, or ten times what two equal runs differ by."""
    words = [*RUN, *size, f"device={device}"]
    request = [*words, f"runs_dir={tmp_path / 'stopped'}"]
    interrupt(request, after=11)
    whole, resumed = train(*words, f"runs_dir={tmp_path / 'whole'}"), train(*request)
    if device.type == "cpu":
        assert differences(whole, resumed) == []
    else:
        again = train(*words, f"runs_dir={tmp_path / 'again'}")
        assert distance(whole, resumed) <= max(0.01, 10 * distance(whole, again))


@pytest.mark.parametrize("device", [SLOW_CPU, GPU], indirect=True)
@pytest.mark.timeout(300)
def test_two_processes_equal_one_with_two_accumulation_steps(device: torch.device, tmp_path: Path) -> None:
    """NCCL between two GPUs, gloo on a CPU; the fast test of it is in tests/runtime/test_distributed.py."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    request = [*RUN, "micro_batch_size=16", "recipe.batch_norm_images=16", f"device={device}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "roadmap", "train", *request, f"runs_dir={tmp_path / 'two'}"]
    done = subprocess.run(command, cwd=ROOT, env={"OMP_NUM_THREADS": "1"} | os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert distance(train(*request, f"runs_dir={tmp_path / 'one'}"), run_folder(tmp_path / "two")) <= 1e-3


def test_recorded_and_packed_runs_equal_a_run_alone(
    size: tuple[str, ...], device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the images/s of all runs together, start-up and evaluation included."""
    on_gpu, folders = device.type == "cuda", []
    ways = (
        [("false", 1), ("auto", 1), ("false", 4), ("auto", 4), ("auto", 16)] if on_gpu else [("false", 1), ("auto", 2)]
    )
    words = [*RUN, *size, f"device={device}", f"epochs={30 if on_gpu else 2}", "eval_every=30"]
    for graph, packed in ways:
        runs_dir = tmp_path / f"{graph}-{packed}"
        more = [f"cuda_graph={graph}", f"packed={packed}", f"runs_dir={runs_dir}"]
        requests = [compose([*words, *more, f"seed={seed}"]) for seed in range(packed)]
        began = time.perf_counter()
        summaries, failures = run_all(requests)
        seconds = time.perf_counter() - began
        assert (len(summaries), failures) == (packed, [])
        folder = RunFolder.find(requests[0].experiment())
        assert folder is not None
        folders.append(folder.path)
        images = sum(summary["epochs"] * (summary["train_images"] // 32 * 32) for summary in summaries)
        with capsys.disabled():
            print(f"\ncuda_graph={graph} packed={packed}: {images / seconds:.0f} images/s")
    for folder_path in folders[1:]:
        if on_gpu:
            again = train(*words, "cuda_graph=false", f"runs_dir={tmp_path / 'again'}")
            assert distance(folders[0], folder_path) <= max(0.01, 10 * distance(folders[0], again))
        else:
            assert differences(folders[0], folder_path) == []


def test_image_files_feed_training(device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the share of the second epoch that training waits for data; the first starts the worker processes."""
    if device.type == "cuda":
        count, workers = 2048, min(len(os.sched_getaffinity(0)), 16)
        how = ["regime=tiny", "image_size=224", "batch_size=64", "precision=bf16", f"num_workers={workers}"]
    else:
        count, how = 24, ["regime=nano", "image_size=32", "in_memory=false", "batch_size=8", "num_workers=1"]
    make_photos(tmp_path / "photos", count)
    data = ["data=imagefolder", f"data.root={tmp_path / 'photos'}", "step=separate_downsampling", "epochs=2"]
    row = read_metrics(train(*how, *data, f"device={device}", f"runs_dir={tmp_path / 'runs'}") / "metrics.jsonl")[-1]
    assert 0 <= row["data_wait"] < 1
    with capsys.disabled():
        print(f"\n{' '.join(how)}: {row['images_per_second']:.0f} images/s, {row['data_wait']:.0%} waiting for data")


ON_CPU = "batch_size=2 image_size=64 bench.repeats=2 bench.warmup=1 bench.seconds=0"
ON_GPU = ["precision=bf16", "precision=fp32", "precision=bf16 compile=true"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("device", "words"),
    [
        pytest.param(*SLOW_CPU.values, ON_CPU, marks=SLOW_CPU.marks),
        *(pytest.param(*GPU.values, f"{words} batch_size=128", marks=GPU.marks) for words in ON_GPU),
    ],
    indirect=["device"],
)
def test_throughput_beside_torchvision_and_timm(
    device: torch.device, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the table of `roadmap bench` for the same networks built here, by torchvision and by timm."""
    names = [f"{network}{by}" for network in ("ResNet-50", "ConvNeXt-T") for by in ("", " of torchvision", " of timm")]
    bench = ["bench", "rows=peers", f"bench.only=[{','.join(names)}]", "bench.measure=[training,inference]"]
    with capsys.disabled():
        print()
        assert main([*bench, *words.split(), f"device={device}", f"runs_dir={tmp_path}"]) == 0


def medians(steps: Mapping[str, Step], device: torch.device, repeats: int) -> dict[str, float]:
    """The median seconds of each step, in turns."""
    for step in steps.values():
        for _ in range(3):
            step()
    found = interleave({name: partial(clock, step, device) for name, step in steps.items()}, repeats)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


@pytest.mark.timeout(300)
def test_ways_to_compute_one_network(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints images/s of ConvNeXt-T's training, batch 256 in bf16."""
    on_gpu = device.type == "cuda"
    batch, size = (256, ["regime=tiny"]) if on_gpu else (2, ["regime=nano", "design.depths=[1,1,1,1]"])
    words = [*size, "step=separate_downsampling", "precision=bf16", "compile=false"]
    linear = "pointwise_linear=true"
    ways = {"eager": [], "1x1 as linear": [linear], "compiled": ["compile=true"]}
    if not on_gpu:  # without the compiler, which takes a minute
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    ways |= {"compiled, 1x1 as linear": ["compile=true", linear]} if on_gpu else {}
    torch.compiler.reset()
    steps = {name: make_step(compose([*words, *way]), "training", batch, device) for name, way in ways.items()}

    def without_benchmark(step: Step = steps["eager"]) -> None:
        with torch.backends.cudnn.flags(benchmark=False):
            step()

    with torch.backends.cudnn.flags(benchmark=True):
        seconds = medians(steps | {"eager, benchmark off": without_benchmark}, device, 9 if on_gpu else 1)
    with capsys.disabled():
        for name, took in seconds.items():
            print(f"\n{name}: {batch / took:.0f} images/s, {seconds['eager'] / took:.2f} of eager", end="")
        print()
    assert all(torch.isfinite(torch.tensor([*seconds.values()])))


@pytest.mark.timeout(60)
def test_depthwise_convolutions_share_of_bandwidth(device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the bytes that it must read and write per second, as a share of what a copy does."""
    shape, dtype = ((256, 96, 56, 56), torch.bfloat16) if device.type == "cuda" else ((2, 8, 14, 14), torch.float32)
    images = torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(shape[1], shape[1], 7, padding=3, groups=shape[1], device=device, dtype=dtype)
    conv.to(memory_format=torch.channels_last)
    copy, once = torch.empty_like(images), images.numel() * images.element_size()

    def trained() -> None:
        inputs = images.detach().requires_grad_()
        conv(inputs).backward(images)  # reads two and writes two tensors of this size, the weights' gradient two more

    with torch.no_grad():
        expected = conv(images)
    with torch.backends.cudnn.flags(benchmark=True):
        steps = {"copy": lambda: copy.copy_(images), "forward": torch.no_grad()(lambda: conv(images))}
        seconds = medians(steps | {"forward and backward": trained}, device, 20)
        assert torch.allclose(conv(images), expected, atol=1e-2)
    speeds = {name: factor * once / seconds[name] for name, factor in (("copy", 2), ("forward", 2))}
    speeds["forward and backward"] = 6 * once / seconds["forward and backward"]
    with capsys.disabled():
        for name, speed in speeds.items():
            print(f"\n{name}: {speed / 2**30:.1f} GiB/s, {speed / speeds['copy']:.0%} of the copy", end="")
        print()


def test_peak_memory_of_two_steps(device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints it for the step with the largest activations and for ConvNeXt-T, in bf16, in all and by image."""
    regime, batches = ("tiny", (128, 256)) if device.type == "cuda" else ("nano", (64, 256))
    found = {}
    for step, batch in itertools.product(("increase_width", "separate_downsampling"), batches):
        words = [f"regime={regime}", f"step={step}", "precision=bf16", "compile=false"]
        timer = NetworkTimer(compose(words), "training", batch, device)
        timer.fit(0)
        assert timer.error is None
        if timer.memory_gb is None:
            pytest.skip("this system's peak memory cannot be reset")
        found[step, timer.batch] = timer.memory_gb
    with capsys.disabled():
        for (step, batch), memory in found.items():
            print(f"\n{step}, batch {batch}: {memory:.2f} GiB, {1024 * memory / batch:.1f} MiB an image", end="")
        print()
    assert found["separate_downsampling", batches[1]] > found["separate_downsampling", batches[0]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("device", [SLOW_CPU, GPU], indirect=True)
def test_nine_compiled_networks_and_memory_after_a_forced_out_of_memory(
    size: tuple[str, ...],
    device: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """torch keeps eight compiled versions of a function; a failed run must not keep its memory from the others."""
    graphs: Counter[str] = Counter()
    train_step, compile_ = Trainer.train_step, torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs[current[-1]] += 1
        return compile_fx(graph, inputs) if device.type == "cuda" else graph

    def or_out_of_memory(self: Trainer, batches: Timed) -> None:
        if self.state.updates == 1 and len(current) == 5:
            torch.empty(2**50, device=self.device)
        train_step(self, batches)

    def counted(request: Composed) -> tuple[list[dict[str, Any]], Failures]:
        current.append(request.variant)
        return run_all([request])

    current: list[str] = []
    monkeypatch.setattr(torch, "compile", partial(compile_, backend=backend))
    monkeypatch.setattr(Trainer, "train_step", or_out_of_memory)
    steps = [step.name for step in steps_of("nano")][-9:]
    how = [
        *size,
        "compile=true",
        "epochs=1",
        "batch_size=32" if device.type == "cuda" else "batch_size=128",
        f"device={device}",
        f"runs_dir={tmp_path}",
    ]
    held, errors = [], []
    for step in steps:
        errors += counted(compose([f"step={step}", *how]))[1]
        reset_peak_memory(device)
        held.append(torch.cuda.memory_allocated() / 2**20 if device.type == "cuda" else live_trainers())
    assert [graphs[variant] > 0 for variant in current] == [True] * 9
    ((_, error),) = errors
    assert "ran out of memory" in str(error)
    with capsys.disabled():
        what = "MiB allocated" if device.type == "cuda" else "trainers alive"
        print(f"\n{what} after each of nine runs, the fifth out of memory: {', '.join(f'{n:.0f}' for n in held)}")
    # the images stay; a nano network, its optimizer and activations are tens of MiB
    assert max(held[4:]) - held[0] < (16 if device.type == "cuda" else 1)


def live_trainers() -> int:
    return sum(type(thing) is Trainer for thing in gc.get_objects())
