"""The cost of designs, counted from their rows without torch, and of any module, by torch's FLOP counter."""

import copy
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

from roadmap.errors import RequestError
from roadmap.networks.rows import Conv, Cost, Layers, layout
from roadmap.schema.design import Design

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 0.1  # of matched costs, relative to the requested one
Scale = Literal["width", "depth"]


def count_flops(design: Design, image_size: int, num_classes: int, layer_scale: bool) -> Cost:
    """Return the cost of a design for one RGB image of ``image_size`` × ``image_size`` pixels.

    ``layer_scale``: whether the recipe gives each block a factor per channel.
    """
    macs = params = activations = 0

    def add(layers: Layers, resolution: int) -> int:
        """Add the layers' cost; return the resolution after them."""
        nonlocal macs, params, activations
        for layer in layers:
            cost = layer.cost(resolution)
            macs, params, activations = macs + cost.macs, params + cost.params, activations + cost.activations
            resolution = layer.resized(resolution)
        return resolution

    rows = layout(design)
    resolution = add(rows.stem, image_size)
    for stage in rows.stages:
        resolution = add(stage.downsampling, resolution)
        for block in stage.blocks:
            add(block.shortcut, resolution)
            resolution = add(block.branch, resolution)
            params += block.out_channels * layer_scale
    head = Conv("head", rows.features, num_classes)  # a linear layer on one pixel
    add((rows.norm, head) if rows.norm else (head,), 1)
    return Cost(macs, params, activations)


def cost(network: "nn.Module", image_size: int = 224) -> Cost:
    """Return the cost of a module for one RGB image of ``image_size`` × ``image_size`` pixels, by torch's FLOP counter.

    Runs on the meta device: nothing is computed, and the network is not changed.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    tensors = [*network.parameters(), *network.buffers()]
    network = copy.deepcopy(network, {id(tensor): tensor.to("meta") for tensor in tensors}).eval()
    activations = 0

    def add_outputs(module: "nn.Module", args: "tuple[Tensor, ...]", output: "Tensor") -> None:
        nonlocal activations
        activations += output.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add_outputs)
        # they keep the shape and have no MACs, but their meta kernels take three quarters of the time
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.ReLU | nn.GELU):
            module.forward = lambda x: x  # type: ignore[method-assign, assignment]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, image_size, image_size, device="meta"))
    # torch counts a multiply-accumulate as two
    return Cost(counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters()), activations)


def matched(design: Design, gmacs: float, by: Scale, image_size: int, num_classes: int) -> Design:
    """Return the design scaled by width, or by the blocks in stage 3, to the cost nearest to ``gmacs`` (×10⁹).

    Stage 3 is where the paper's larger networks are deeper. Any integer from 1 on is considered; ties go to the
    smaller. Raises RequestError if none comes within 10 %.
    """

    def cost_at(value: int) -> float:
        return count_flops(scale(design, by, value), image_size, num_classes, layer_scale=False).gmacs

    most = 1
    while cost_at(most) < gmacs:
        most *= 2
    above = 1 + bisect_left(range(1, most), gmacs, key=cost_at)
    tried = {value: cost_at(value) for value in (above - 1, above) if value}
    nearest = min(tried, key=lambda value: abs(tried[value] - gmacs))
    if abs(tried[nearest] - gmacs) > TOLERANCE * gmacs:
        costs = " and ".join(f"{by} {value} costs {spent:.4g}" for value, spent in tried.items())
        raise RequestError(
            f"match_gmacs={gmacs:g} cannot be matched within 10 %: {costs} GMACs; "
            "choose another match_gmacs or match_by"
        )
    return scale(design, by, nearest)


def scale(design: Design, by: Scale, value: int) -> Design:
    first, second, _, last = design.depths
    return design.replace(width=value) if by == "width" else design.replace(depths=(first, second, value, last))
