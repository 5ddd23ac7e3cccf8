"""Throughput: ours beside torchvision's and timm's networks in turn, and beside the largest matrix products."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import product

import torch
from torch import nn

from roadmap.bench.contenders import Contender, compose_bench
from roadmap.bench.measure import alternate, clock, inference_step, random_images, training_step, with_room
from roadmap.doctor.checks import Check, Subject, Verdict
from roadmap.networks.builder import build_network
from roadmap.networks.costs import cost
from roadmap.records.rival import Rival
from roadmap.runtime.device import tf32

Builders = dict[str, Callable[[], nn.Module]]
LEAST_ROUNDS = 3
# what a cell is taken to cost before it is measured, a network: a guess, to be put right by the first run on a GPU
EAGER_SECONDS, COMPILED_SECONDS = 5.0, 40.0


@dataclass(frozen=True)
class Cell:
    """One comparison. ``precision``: bf16 by autocast, or fp32, in which a GPU is allowed TF32."""

    network: str
    training: bool
    precision: str
    compiled: bool

    def name(self, device: torch.device) -> str:
        """As the table has it."""
        what = "training" if self.training else "inference"
        precision = "TF32" if device.type == "cuda" and self.precision == "fp32" else self.precision
        return f"{self.network} {what} {precision}{' compiled' if self.compiled else ''}"


def builders(network: str) -> Builders:
    """Who builds a network: ours, torchvision, and timm where it is installed; all with the same stochastic depth."""
    found: Builders = {}
    for peer in peers():
        design = peer.composed.design
        who = design.library if isinstance(design, Rival) else "ours"
        if network in (peer.name, peer.against) and (who != "timm" or find_spec("timm")):
            found[who] = partial(build_network, peer.composed)
    return found


@cache
def peers() -> tuple[Contender, ...]:
    """The networks of ``rows=peers``, composed once."""
    return compose_bench(["rows=peers"]).contenders


def matrix_peak(subject: Subject, repeats: int = 20) -> Verdict:
    """FLOP/s of the best of several products of two large square matrices, per precision."""
    size, device = subject.scale.matrix, subject.device
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        product_seconds = partial(clock(device), partial(torch.mm, one, other))
        with tf32(True):
            seconds = [product_seconds() for _ in range(repeats)]
        subject.peaks[precision] = 2 * size**3 / min(seconds)
    fp32 = "fp32 with TF32" if device.type == "cuda" else "fp32"
    tera = {precision: flops / 1e12 for precision, flops in subject.peaks.items()}
    sentence = f"{tera['bf16']:.3g} TFLOP/s in bf16, {tera['fp32']:.3g} in {fp32}; {size} x {size}, best of {repeats}"
    return Verdict(None, sentence, {"tflops": tera, "size": size})


def measure(subject: Subject, cell: Cell) -> Verdict:
    """Images per second of each contender, ours by the others', and shares of the measured peak.

    Training is reckoned as three forward passes, a multiply-accumulate as two operations. Half the batch is tried where
    the device has not the memory.
    """
    scale, found = subject.scale, builders(cell.network)
    subject.ask_for(len(found) * (COMPILED_SECONDS if cell.compiled else EAGER_SECONDS) + scale.cell_seconds)
    seconds, batch = with_room(partial(timed, subject, cell, found), scale.batch, subject.device)
    with torch.device("meta"):
        macs = cost(found["ours"](), scale.image_size).macs
    flops = (3 if cell.training else 1) * 2 * macs
    rates = {who: batch / statistics.median(times) for who, times in seconds.items()}
    ratios = {who: rates["ours"] / rate for who, rate in rates.items() if who != "ours"}
    peak = subject.peaks.get(cell.precision)
    shares = {who: rate * flops / peak for who, rate in rates.items()} if peak else {}
    numbers = {"images_per_second": rates, "ratio": ratios, "share_of_peak": shares, "batch": batch}
    numbers |= {"image_size": scale.image_size, "rounds": len(seconds["ours"])}
    parts = [f"{rates['ours']:.4g} images/s", *(f"{ratio:.2f} x {who}" for who, ratio in ratios.items())]
    parts += [f"{shares['ours']:.0%} of the peak"] if shares else []
    smaller = f" (for want of memory, not {scale.batch})" if batch < scale.batch else ""
    return Verdict(None, ", ".join(parts) + f"; batch {batch}{smaller}", numbers)


def timed(subject: Subject, cell: Cell, found: Builders, batch: int) -> dict[str, list[float]]:
    """Seconds of each contender's steps, as many rounds as ``cell_seconds`` has room for."""
    scale, device = subject.scale, subject.device
    # compiled code of other cells' networks counts against dynamo's limit of versions
    torch.compiler.reset()
    images, seconds = random_images(batch, scale.image_size, device), clock(device)
    takes: dict[str, Callable[[], float]] = {}
    for who, make in found.items():
        make_step = training_step if cell.training else inference_step
        takes[who] = partial(seconds, make_step(make(), images, cell.precision, compiled=cell.compiled))
    with tf32(True):
        first = alternate(takes, scale.warmup, 1)
        round_seconds = sum(times[0] for times in first.values())
        rounds = min(max(round(scale.cell_seconds / round_seconds), LEAST_ROUNDS), scale.most_rounds)
        return alternate(takes, 0, rounds)


def checks(subject: Subject) -> list[Check]:
    """The peak, then every cell; the compiled ones last, since they take longest."""
    compiled = (False, True) if subject.scale.compiled else (False,)
    cells = [
        Cell(network, training, precision, compile_)
        for compile_, precision, training, network in product(
            compiled, ("bf16", "fp32"), (True, False), ("ConvNeXt-T", "ResNet-50")
        )
    ]
    named = [Check(cell.name(subject.device), partial(measure, cell=cell)) for cell in cells]
    return [Check("matrix peak", matrix_peak), *named]
