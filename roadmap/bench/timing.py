"""Timing of training and inference steps."""

import gc
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from roadmap.runtime.device import autocast, is_out_of_memory

Step = Callable[[], object]
Clock = Callable[[Step], float]
Found = TypeVar("Found")


def random_images(batch: int, image_size: int, device: torch.device, *, channels_last: bool = True) -> Tensor:
    """Random normal images (batch, 3, image_size, image_size)."""
    images = torch.randn(batch, 3, image_size, image_size, device=device)
    return images.to(memory_format=torch.channels_last) if channels_last else images


def training_step(network: nn.Module, images: Tensor, precision: str, *, compiled: bool = False) -> Step:
    """A step of forward, backward and update in the memory format of ``images``; it does not synchronise a GPU."""
    network = _in_memory_format(network, images).train()
    forward = _compiled(network) if compiled else network
    # a learning rate of 0 keeps the weights, so that values never become denormal
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    context = autocast(images.device, precision)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def step() -> None:
        with context():
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference_step(network: nn.Module, images: Tensor, precision: str, *, compiled: bool = False) -> Step:
    """A forward pass without gradients in the memory format of ``images``; it does not synchronise a GPU."""
    network = _in_memory_format(network, images).eval()
    forward = _compiled(network) if compiled else network
    context = autocast(images.device, precision)

    @torch.inference_mode()
    def step() -> None:
        with context():
            forward(images)

    return step


def _compiled(network: nn.Module) -> Callable[..., Tensor]:
    """Compile for this batch size only; dynamic shapes are slower."""
    return torch.compile(network, dynamic=False)


def _in_memory_format(network: nn.Module, images: Tensor) -> nn.Module:
    last = images.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if last else torch.contiguous_format
    return network.to(images.device, memory_format=memory_format)  # type: ignore[call-overload]


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def clock(device: torch.device) -> Clock:
    """A function that measures the seconds of a step, with CUDA events on NVIDIA GPUs."""

    def by_wall(step: Step) -> float:
        synchronise(device)
        began = time.perf_counter()
        step()
        synchronise(device)
        return time.perf_counter() - began

    def by_events(step: Step) -> float:
        with torch.cuda.device(device):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            synchronise(device)
            began.record()
            step()
            ended.record()
            synchronise(device)
            return began.elapsed_time(ended) / 1000

    return by_events if device.type == "cuda" else by_wall


def interleave(functions: Mapping[str, Callable[[], float]], warmup: int, repeats: int) -> dict[str, list[float]]:
    """Call all ``functions`` once per round in alternating order; return the results after the warm-up rounds."""
    results: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(warmup + repeats):
        names = list(functions) if round_number % 2 else list(functions)[::-1]
        for name in names:
            seconds = functions[name]()
            if round_number >= warmup:
                results[name].append(seconds)
    return results


def fit_batch(attempt: Callable[[int], Found], batch: int, device: torch.device) -> tuple[Found, int]:
    """Halve the batch until ``attempt`` does not run out of memory; return its result and the batch size.

    Raises the device's out-of-memory error if a single image is too large.
    """
    while True:
        # not in the except block, where the error still refers to the networks
        free(device)
        try:
            return attempt(batch), batch
        except RuntimeError as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        batch //= 2


def free(device: torch.device) -> None:
    """Free the memory of earlier networks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
