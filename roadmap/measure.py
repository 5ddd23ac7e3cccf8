"""How long steps take: what is compared takes turns, so that whatever else the machine does hits all alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from roadmap.builder import build_network
from roadmap.config import Composed
from roadmap.device import autocast
from roadmap.spending import spent

Step = Callable[[], None]
CPU_GMACS = 50.0  # forward pass at most of a step that is measured on a CPU: some seconds
PAIRS = {
    # our step and the name of the same network in torchvision and timm
    "ResNet-50": ("resnet50", "resnet50"),
    "ConvNeXt-T": ("separate_downsampling", "convnext_tiny"),
}


def training_step(
    network: nn.Module, images: Tensor, labels: Tensor, precision: str, *, compiled: bool = False
) -> Step:
    """One forward, backward and update in channels_last, finished when it returns."""
    network = _placed(network, images).train()
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    context = autocast(images.device, precision)

    def step() -> None:
        with context():
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronise(images.device)

    return step


def inference_step(network: nn.Module, images: Tensor, precision: str, *, compiled: bool = False) -> Step:
    """One forward pass without gradients in channels_last, finished when it returns."""
    network = _placed(network, images).eval()
    forward = torch.compile(network) if compiled else network
    context = autocast(images.device, precision)

    @torch.inference_mode()
    def step() -> None:
        with context():
            forward(images)
        synchronise(images.device)

    return step


def _placed(network: nn.Module, images: Tensor) -> nn.Module:
    return network.to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has by then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(steps: dict[str, Step], warmup: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each step, taken in turn; which of them goes first changes from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(warmup + repeats):
        names = list(steps) if turn % 2 else list(reversed(steps))
        for name in names:
            started = time.perf_counter()
            steps[name]()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def spot_records(
    requests: Sequence[Composed], device: torch.device, train_images: int, val_images: int
) -> list[dict[str, Any]]:
    """Records as of finished runs of one epoch, for ``analysis.estimate``: the cheapest, middle and dearest design.

    Their ``train_seconds`` come from steps on random images, measured now: reading and augmenting images, checkpoints
    and the pace of a warm machine are not in them.
    """
    costs = {request.variant: (spent(request).macs, request) for request in requests}
    ordered = [request for _, request in sorted(costs.values(), key=lambda cost: cost[0])]
    records = []
    for request in {id(ordered[place]): ordered[place] for place in (0, len(ordered) // 2, -1)}.values():
        count, (training, evaluation) = spent(request), image_seconds(request, device)
        records.append(
            {"status": "finished", "regime": request.values["regime"]["name"], "variant": request.variant}
            | {"gmacs": count.gmacs, "params_m": count.params_m, "data": request.values["data"]["name"], "epochs": 1}
            | {"train_seconds": train_images * training + val_images * evaluation, "train_images": train_images}
            | {"device": device.type, "started": None, "ended": None}
        )
    return records


def image_seconds(composed: Composed, device: torch.device, repeats: int = 3) -> tuple[float, float]:
    """Seconds that an image takes in training and in evaluation, of a config's network on random images."""
    values = composed.values
    batch = values["micro_batch_size"] or values["batch_size"]
    if device.type == "cpu":
        batch = min(batch, max(1, int(CPU_GMACS / spent(composed).gmacs)))
    images = torch.randn(batch, 3, values["image_size"], values["image_size"], device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    network, precision = build_network(composed), values["precision"]
    # one after the other: each sets the network's mode
    training = _median(training_step(network, images, labels, precision), repeats)
    return training / batch, _median(inference_step(network, images, precision), repeats) / batch


def _median(step: Step, repeats: int) -> float:
    """Seconds of a step after a first one that nobody counts."""
    seconds = alternate({"step": step}, warmup=1, repeats=repeats)["step"]
    return statistics.median(seconds)
