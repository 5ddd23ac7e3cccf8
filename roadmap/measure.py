"""How long steps take: what is compared takes turns, so that whatever else the machine does hits all alike."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from roadmap.device import autocast

Step = Callable[[], None]
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
