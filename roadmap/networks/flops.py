"""What a design costs, exactly and at once, from its rows: without torch, thousands of designs a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from roadmap.errors import RequestError
from roadmap.networks.rows import Conv, Layers, layout
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.experiment import ImageSize
from roadmap.schema.recipe import Recipe
from roadmap.validation import PositiveInt, converted


@dataclass(frozen=True)
class Cost:
    """Of one image.

    ``macs``: multiply-accumulates of convolutions and matrix products, what the paper calls FLOPs; ``params``:
    trainable parameters; ``activations``: elements that convolutions and linear layers put out, as pycls counts them
    (arXiv:2003.13678).
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


class Composition(Protocol):
    """What of a composed config tells the cost of its network."""

    @property
    def design(self) -> Design | BaselineModel: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def values(self) -> Mapping[str, Any]: ...


def composed_flops(composed: Composition) -> Cost:
    """What the network of a composed config costs at its image size and the regime's number of classes.

    Raises RequestError for an image too small for the network, and for a rival, which has no rows.
    """
    values = composed.values
    if isinstance(composed.design, BaselineModel):
        raise RequestError(f"model={composed.design.name} is not one of our own designs, which this is about")
    layer_scale = composed.recipe.network.layer_scale is not None
    return count_flops(composed.design, values["image_size"], values["regime"]["num_classes"], layer_scale)


def count_flops(design: Design, image_size: int, num_classes: int, layer_scale: bool) -> Cost:
    """Count one ``image_size`` × ``image_size`` RGB image through the network of a design.

    ``layer_scale``: whether the recipe gives each block a factor per channel. Raises RequestError for an image that
    would be less than a pixel in the last stage, and for a number of classes that is none.
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
        """Count the layers ``times`` over, from so many pixels a side; how many a side come out of them once."""
        for layer in layers:
            macs, params, activations = layer.cost(resolution)
            self.macs += times * macs
            self.params += times * params
            self.activations += times * activations
            resolution = layer.resized(resolution)
        return resolution
