"""How long steps take: what is compared takes turns, so that whatever else the machine does hits all alike."""

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
CPU_GMACS = 50.0  # forward pass at most of a step that is measured on a CPU: some seconds


def random_images(batch: int, image_size: int, device: torch.device, *, channels_last: bool = True) -> Tensor:
    """Normal values, (batch, 3, image_size, image_size): how long a step takes does not depend on what it sees."""
    images = torch.randn(batch, 3, image_size, image_size, device=device)
    return images.to(memory_format=torch.channels_last) if channels_last else images


def training_step(network: nn.Module, images: Tensor, precision: str, *, compiled: bool = False) -> Step:
    """One forward, backward and update in the memory format of ``images``; a GPU may still be at it on return."""
    network = _placed(network, images).train()
    forward = _compiled(network) if compiled else network
    # at a rate of 0 all is computed and nothing changes: however long it is measured, no value becomes denormal
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
    """One forward pass without gradients in the memory format of ``images``; a GPU may still be at it on return."""
    network = _placed(network, images).eval()
    forward = _compiled(network) if compiled else network
    context = autocast(images.device, precision)

    @torch.inference_mode()
    def step() -> None:
        with context():
            forward(images)

    return step


def _compiled(network: nn.Module) -> Callable[..., Tensor]:
    """Code for this batch alone: of another size before, torch would else make code for any, which is slower."""
    return torch.compile(network, dynamic=False)


def _placed(network: nn.Module, images: Tensor) -> nn.Module:
    last = images.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if last else torch.contiguous_format
    return network.to(images.device, memory_format=memory_format)  # type: ignore[call-overload]


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has by then."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def clock(device: torch.device) -> Clock:
    """What measures the seconds that the device takes for a step: on NVIDIA's GPUs by events of its own."""

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


def alternate(takes: Mapping[str, Callable[[], float]], warmup: int, repeats: int) -> dict[str, list[float]]:
    """What each of ``takes`` returns, called in turn; which of them goes first changes from round to round."""
    taken: dict[str, list[float]] = {name: [] for name in takes}
    for turn in range(warmup + repeats):
        names = list(takes) if turn % 2 else list(takes)[::-1]
        for name in names:
            seconds = takes[name]()
            if turn >= warmup:
                taken[name].append(seconds)
    return taken


def with_room(attempt: Callable[[int], Found], batch: int, device: torch.device) -> tuple[Found, int]:
    """What ``attempt`` returns of a batch, halved until the device has the memory for it, and the size of the batch.

    Raises what the device says, one of those that ``is_out_of_memory`` knows, where one image has no room.
    """
    while True:
        # here, since an error still holds the networks in its `except`
        free(device)
        try:
            return attempt(batch), batch
        except RuntimeError as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        batch //= 2


def free(device: torch.device) -> None:
    """Give back what earlier networks held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def spot_records(
    requests: Sequence[Composed], device: torch.device, train_images: int, val_images: int
) -> list[dict[str, Any]]:
    """Records as of finished runs of one epoch, for ``analysis.estimate``: the cheapest, middle and dearest design.

    Their ``train_seconds`` come from steps on random images, measured now: reading and augmenting images, checkpoints
    and the pace of a warm machine are not in them.
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
    """Seconds that an image takes in training and in evaluation, of a config's network on random images."""
    settings = composed.settings
    batch = settings.micro_batch_size or settings.batch_size
    if device.type == "cpu":
        batch = min(batch, max(1, int(CPU_GMACS / network_cost(composed).gmacs)))
    images = random_images(batch, settings.image_size, device)
    network, precision, seconds = build_network(composed), settings.precision, clock(device)
    # one after the other: each sets the network's mode
    training = _median(training_step(network, images, precision), seconds, repeats)
    return training / batch, _median(inference_step(network, images, precision), seconds, repeats) / batch


def _median(step: Step, seconds: Clock, repeats: int) -> float:
    """Seconds of a step after a first one that nobody counts."""
    return statistics.median(alternate({"step": lambda: seconds(step)}, warmup=1, repeats=repeats)["step"])
