"""Whole training runs on the device: resumed, in two processes, fed from image files; and throughput."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.runs.run_folder import RunFolder, read_metrics
from roadmap.training.run import run_all, run_experiment
from tests.faults.kill_and_resume import differences, run_folder
from tests.gpu.conftest import GPU, SLOW_CPU
from tests.gpu.test_numerics import floats, joined
from tests.photos import make_photos
from tests.processes import interrupt

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


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(device: torch.device, tmp_path: Path) -> None:
    """On a CPU to the bit. A GPU may add in any order: within 1 %, or ten times what two equal runs differ by."""
    whole, again = (train(*RUN, f"device={device}", f"runs_dir={tmp_path / name}") for name in ("whole", "again"))
    request = [*RUN, f"device={device}", f"runs_dir={tmp_path / 'stopped'}"]
    interrupt(request, after=14)
    resumed = train(*request)
    if device.type == "cpu":
        assert differences(whole, resumed) == []
    else:
        assert distance(whole, resumed) <= max(0.01, 10 * distance(whole, again))


def test_two_processes_equal_one_with_two_accumulation_steps(device: torch.device, tmp_path: Path) -> None:
    """NCCL between two GPUs, gloo on a CPU."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    request = [*RUN, "micro_batch_size=16", "recipe.batch_norm_images=16", f"device={device}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "roadmap", "train", *request, f"runs_dir={tmp_path / 'two'}"]
    done = subprocess.run(command, cwd=ROOT, env={"OMP_NUM_THREADS": "1"} | os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert distance(train(*request, f"runs_dir={tmp_path / 'one'}"), run_folder(tmp_path / "two")) <= 1e-3


def test_recorded_and_packed_runs_equal_a_run_alone(
    device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the images/s of all runs together, start-up and evaluation included."""
    on_gpu, folders = device.type == "cuda", []
    ways = (
        [("false", 1), ("auto", 1), ("false", 4), ("auto", 4), ("auto", 16)] if on_gpu else [("false", 1), ("auto", 2)]
    )
    words = [*RUN, f"device={device}", f"epochs={30 if on_gpu else 2}", "eval_every=30"]
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
