"""Whole runs on the device: stopped and resumed, in two processes, and fed from image files."""

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGUSR1, Signals
from typing import Any

import torch

from roadmap.config.compose import compose
from roadmap.doctor.checks import Check, SkippedError, Subject, Verdict
from roadmap.doctor.machine import usable_cores
from roadmap.doctor.photos import make_photos
from roadmap.doctor.proof import tensors
from roadmap.errors import StoppedError
from roadmap.folders.runfolder import METRICS, read_metrics, timeless_metrics
from roadmap.runtime.stopping import StopRequest
from roadmap.training.execute import execute

# digits, two epochs of 11 updates, with all of the recipe's augmentation
RUN = ("step=separate_downsampling", "epochs=2", "batch_size=32", "recipe.ema_decay=0.9")
LAUNCH_SECONDS = 240


class StopAfter(StopRequest):
    """Asks to stop when it is looked at for the ``looks``-th time, as a signal at that moment would.

    The trainer looks before each micro batch and at an epoch's end.
    """

    def __init__(self, looks: int):
        self.left = looks
        super().__init__()

    @property
    def signal(self) -> Signals | None:
        self.left -= 1
        return SIGUSR1 if self.left <= 0 else super().signal


def train(subject: Subject, name: str, *overrides: str, stop: StopRequest | None = None) -> Path:
    """A run on the device in a ``runs_dir`` of its own, which is made where it is not there; the run's folder."""
    _, folder = execute(compose([*overrides, f"device={subject.device}", f"runs_dir={subject.folder / name}"]), stop)
    return folder.path


def resume(subject: Subject, looks: int = 16) -> Verdict:
    """A run stopped in its second epoch and started again, beside one that was let be.

    Bit for bit on a CPU. On a GPU, where sums may be taken in any order, within 1 % of the weights' size, or ten times
    what two runs that were let be differ by.
    """
    whole, again = (train(subject, name, *RUN) for name in ("whole", "again"))
    place = "not stopped"
    try:
        train(subject, "stopped", *RUN, stop=StopAfter(looks))
    except StoppedError as stopped:
        place = str(stopped).partition(" after ")[2].partition(";")[0]
    resumed = train(subject, "stopped", *RUN)
    repeat, apart = differences(whole, again), differences(whole, resumed)
    allowed = 0.0 if subject.device.type == "cpu" else max(0.01, 10 * max(repeat.values()))
    worst = max(apart.values())
    equal = worst == 0 and timeless_metrics(whole / METRICS) == timeless_metrics(resumed / METRICS)
    return Verdict(
        place != "not stopped" and worst <= allowed and (equal or allowed > 0),
        f"stopped after {place}, resumed: {'equal to the bit' if equal else f'{worst:.1e} apart'} "
        f"(allowed {allowed:.0e}); two runs let be are {max(repeat.values()):.1e} apart",
        {"place": place, "bit_equal": equal, "apart": apart, "repeat": repeat, "allowed": allowed},
    )


def differences(one: Path, other: Path) -> dict[str, float]:
    """How far the last checkpoints of two runs are apart, by the size of the first: weights, average, optimizer."""
    first, second = (torch.load(run / "checkpoints" / "last.pt", "cpu", weights_only=True) for run in (one, other))
    return {part: _distance(first[part], second[part]) for part in ("network", "ema", "optimizer")}


def _distance(one: Any, other: Any) -> float:
    (first, second) = (torch.cat([tensor.flatten().double() for tensor in tensors(part)]) for part in (one, other))
    return ((first - second).norm() / first.norm()).nan_to_num(torch.inf).item()


def two_processes(subject: Subject, *more: str) -> Verdict:
    """A run in two processes by torchrun, beside one process that accumulates their two micro batches.

    ``more``: overrides of the first only.
    """
    on_gpu = subject.device.type == "cuda"
    if on_gpu and torch.cuda.device_count() < 2:
        raise SkippedError("NCCL between two processes wants two GPUs, and here is one")
    request = [*RUN, "micro_batch_size=16"]
    launch(subject, "two", *request, *more)
    (two,) = (subject.folder / "two").glob("nano-*")
    apart = differences(train(subject, "one", *request), two)
    worst = max(apart["network"], apart["ema"])
    return Verdict(
        worst <= 1e-3,
        f"two processes ({'NCCL' if on_gpu else 'gloo'}) and one of two accumulation steps: weights {worst:.1e} apart "
        "(allowed 1e-03)",
        {"apart": apart, "allowed": 1e-3},
    )


def launch(subject: Subject, name: str, *overrides: str) -> None:
    """``roadmap train`` in two processes of the device's kind."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "roadmap", "train", *overrides, f"device={subject.device.type}"]
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [*words, f"runs_dir={subject.folder / name}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": paths},
    )
    try:
        _, error = process.communicate(timeout=LAUNCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"two processes had not ended after {LAUNCH_SECONDS} s") from None
    finally:
        # torchrun takes its processes with it when it is asked to end, not when it is killed
        process.terminate()
        process.wait()
    if process.returncode:
        said = [line for line in error.splitlines() if line.startswith("roadmap: ")] or ["nothing of use"]
        raise RuntimeError(f"torchrun ended with {process.returncode}: {said[-1]}")


def loader(subject: Subject) -> Verdict:
    """The share of the time that training waits for data, in the second epoch of ConvNeXt on photographs.

    The first one is left out: it starts the worker processes.
    """
    root, scale = subject.folder / "photos", subject.scale
    make_photos(root, scale.photos)
    workers = min(usable_cores(), 16)
    data = ["step=separate_downsampling", "data=imagefolder", f"data.root={root}", f"num_workers={workers}", "epochs=2"]
    row = _last_row(train(subject, "photo_run", *scale.photo_run, *data))
    return Verdict(
        None,
        f"{row['data_wait']:.0%} of the time waiting for data, {row['images_per_second']:.0f} images/s with "
        f"{workers} workers; {', '.join(scale.photo_run)}, {scale.photos} JPEGs of 500x375",
        {"data_wait": row["data_wait"], "images_per_second": row["images_per_second"], "num_workers": workers},
    )


def _last_row(run: Path) -> dict[str, Any]:
    return read_metrics(run / METRICS)[-1]


CHECKS = (Check("resume", resume), Check("two processes", two_processes), Check("loader", loader))
