"""MACs, parameters and activations: of a design from its rows, without torch; of any module by torch's counter."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadmap.networks.rows import Conv, Layers, layout
from roadmap.schema.design import Design
from roadmap.schema.experiment import ImageSize
from roadmap.validation import PositiveInt, converted

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one image.

    ``macs``: multiply-accumulates of convolutions and matrix products, which the paper calls FLOPs.
    ``params``: trainable parameters.
    ``activations``: output elements of convolutions and linear layers, as in pycls (arXiv:2003.13678).
    """

    macs: int
    params: int
    activations: int

    @property
    def gmacs(self) -> float:
        """MACs ×10⁹, the "GFLOPs" of the paper's tables."""
        return self.macs / 1e9

    @property
    def params_m(self) -> float:
        """Parameters ×10⁶."""
        return self.params / 1e6


def count_flops(design: Design, image_size: int, num_classes: int, layer_scale: bool) -> Cost:
    """Return the cost of a design for one RGB image of ``image_size`` × ``image_size`` pixels.

    ``layer_scale``: whether the recipe gives each block a factor per channel. Raises RequestError if the image is
    smaller than the network's total stride.
    """
    converted(image_size, ImageSize, "image_size")
    converted(num_classes, PositiveInt, "num_classes")
    rows = layout(design)
    tally = _Tally()
    resolution = tally.add(rows.stem, image_size)
    for stage in rows.stages:
        resolution = tally.add(stage.downsampling, resolution)
        for block, times in ((stage.first, 1), (stage.other, stage.depth - 1)):
            if times:
                tally.add(block.shortcut, resolution, times)
                resolution = tally.add(block.branch, resolution, times)
                tally.params += times * block.out_channels * layer_scale
    if rows.norm:
        tally.add((rows.norm,), 1)
    tally.add((Conv("head", rows.features, num_classes),), 1)  # a linear layer, on the one pixel that is left
    return Cost(tally.macs, tally.params, tally.activations)


@dataclass
class _Tally:
    macs: int = 0
    params: int = 0
    activations: int = 0

    def add(self, layers: Layers, resolution: int, times: int = 1) -> int:
        """Add the cost of the layers ``times`` over; returns the resolution after them."""
        for layer in layers:
            macs, params, activations = layer.cost(resolution)
            self.macs += times * macs
            self.params += times * params
            self.activations += times * activations
            resolution = layer.resized(resolution)
        return resolution


def cost(network: "nn.Module", image_size: int = 224) -> Cost:
    """Return the cost of a module for one RGB image of ``image_size`` × ``image_size`` pixels, by torch's FLOP counter.

    Runs on the meta device: nothing is computed, and the network is not changed.
    """
    import torch
    from torch import nn
    from torch.func import functional_call
    from torch.utils.flop_counter import FlopCounterMode

    # they do not change shapes and have no MACs, but their meta kernels take three quarters of the time
    without_macs = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.GELU)
    meta = {name: tensor.to("meta") for name, tensor in [*network.named_parameters(), *network.named_buffers()]}
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    activations = 0

    def add_outputs(module: "nn.Module", args: "tuple[Tensor, ...]", output: "Tensor") -> None:
        nonlocal activations
        activations += output.numel()

    hooks = [m.register_forward_hook(add_outputs) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    skipped = [module for module in network.modules() if isinstance(module, without_macs)]
    modes = [(module, module.training) for module in network.modules()]
    counter = FlopCounterMode(display=False)
    network.eval()
    for module in skipped:
        module.forward = _identity  # type: ignore[assignment]
    try:
        with torch.no_grad(), counter:
            functional_call(network, meta, (image,))
    finally:
        for hook in hooks:
            hook.remove()
        for module in skipped:
            del module.forward
        for each, training in modes:
            each.training = training
    flops = counter.get_total_flops()
    # torch counts a multiply-accumulate as two
    return Cost(flops // 2, sum(p.numel() for p in network.parameters()), activations)


def _identity(x: "Tensor") -> "Tensor":
    return x
