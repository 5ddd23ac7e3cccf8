"""Timing of training and inference steps."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from roadmap.config.build import build_network, network_cost
from roadmap.config.compose import Composed
from roadmap.runtime.device import autocast, is_out_of_memory

Step = Callable[[], object]
Clock = Callable[[Step], float]
Found = TypeVar("Found")
CPU_GMACS = 50.0  # of one forward pass, at most, in a step timed on a CPU: some seconds


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


def spot_records(
    requests: Sequence[Composed], device: torch.device, train_images: int, val_images: int
) -> list[dict[str, Any]]:
    """Records like those of finished runs of one epoch, for the cheapest, median and most expensive design.

    ``train_seconds`` is measured on random images; it excludes data loading, augmentation and checkpoints.
    """
    costs = {request.variant: (network_cost(request).macs, request) for request in requests}
    ordered = [request for _, request in sorted(costs.values(), key=lambda cost: cost[0])]
    records = []
    for request in {id(ordered[place]): ordered[place] for place in (0, len(ordered) // 2, -1)}.values():
        count, (training, evaluation) = network_cost(request), image_seconds(request, device)
        records.append(
            {"status": "finished", "regime": request.regime.name, "variant": request.variant}
            | {"gmacs": count.gmacs, "params_m": count.params_m, "data": request.data_name, "epochs": 1}
            | {"train_seconds": train_images * training + val_images * evaluation, "train_images": train_images}
            | {"device": device.type, "started": None, "ended": None}
        )
    return records


def image_seconds(composed: Composed, device: torch.device, repeats: int = 3) -> tuple[float, float]:
    """Seconds per image in training and in evaluation of a config's network, on random images."""
    settings = composed.settings
    batch = settings.micro_batch_size or settings.batch_size
    if device.type == "cpu":
        batch = min(batch, max(1, int(CPU_GMACS / network_cost(composed).gmacs)))
    images = random_images(batch, settings.image_size, device)
    network, precision, seconds = build_network(composed), settings.precision, clock(device)
    # in sequence, because each sets the network's mode
    training = _median(training_step(network, images, precision), seconds, repeats)
    return training / batch, _median(inference_step(network, images, precision), seconds, repeats) / batch


def _median(step: Step, seconds: Clock, repeats: int) -> float:
    """Median seconds of a step after one warm-up step."""
    return statistics.median(interleave({"step": lambda: seconds(step)}, warmup=1, repeats=repeats)["step"])
