"""A design as rows of layers. Costs need no torch; it is imported when a row becomes a module."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from roadmap.schema.design import Design

if TYPE_CHECKING:
    from torch import nn

PATCH = 16  # patch size of isotropic networks, in pixels
EXPANSION = 4  # ratio of a bottleneck's wide and narrow sides, in ResNet and ConvNeXt


class Cost(NamedTuple):
    """The cost of a layer or network for one image.

    ``macs``: multiply-accumulates of convolutions and matrix products, which the paper calls FLOPs.
    ``params``: trainable parameters.
    ``activations``: output elements of convolutions and linear layers, as in pycls (arXiv:2003.13678).
    """

    macs: int = 0
    params: int = 0
    activations: int = 0

    @property
    def gmacs(self) -> float:
        """MACs ×10⁹, the "GFLOPs" of the paper's tables."""
        return self.macs / 1e9

    @property
    def params_m(self) -> float:
        """Parameters ×10⁶."""
        return self.params / 1e6

    def __str__(self) -> str:
        return f"{self.gmacs:.4g} GMACs, {self.params_m:.4g} M parameters, {self.activations / 1e6:.4g} M activations"

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(slots=True)
class Layer:
    """A row: a layer's name in the network, its shapes, its cost, and its module.

    By default a layer keeps the resolution and costs nothing.
    """

    name: str

    def resized(self, resolution: int) -> int:
        """Return the output resolution in pixels for an input resolution."""
        return resolution

    def cost(self, resolution: int) -> Cost:
        """Return the cost at an input resolution in pixels."""
        return Cost()

    def module(self, design: Design) -> "nn.Module":
        """Return the layer as a module of the design's network, (N, C, H, W) to (N, C', H', W')."""
        raise NotImplementedError


@dataclass(slots=True)
class Conv(Layer):
    """A convolution; an odd kernel is padded so that stride 1 keeps the resolution."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = True

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.kernel % 2 else 0

    def resized(self, resolution: int) -> int:
        return (resolution + 2 * self.padding - self.kernel) // self.stride + 1

    def cost(self, resolution: int) -> Cost:
        weights = self.out_channels * (self.in_channels // self.groups) * self.kernel**2
        pixels = self.resized(resolution) ** 2
        return Cost(weights * pixels, weights + self.bias * self.out_channels, self.out_channels * pixels)

    def module(self, design: Design) -> "nn.Module":
        from roadmap.networks.modules import ScalableConv2d

        shape = self.in_channels, self.out_channels, self.kernel, self.stride
        return ScalableConv2d(*shape, padding=self.padding, groups=self.groups, bias=self.bias)


@dataclass(slots=True)
class Norm(Layer):
    """BatchNorm with ResNet's epsilon, or LayerNorm with ConvNeXt's."""

    channels: int

    def cost(self, resolution: int) -> Cost:
        return Cost(params=2 * self.channels)

    def module(self, design: Design) -> "nn.Module":
        from torch.nn import BatchNorm2d

        from roadmap.networks.modules import LayerNorm2d

        return BatchNorm2d(self.channels) if design.norm == "batch" else LayerNorm2d(self.channels, eps=1e-6)


@dataclass(slots=True)
class Act(Layer):
    """The design's activation."""

    def module(self, design: Design) -> "nn.Module":
        from torch import nn

        return nn.ReLU(inplace=True) if design.activation == "relu" else nn.GELU()


@dataclass(slots=True)
class Pool(Layer):
    """A 3×3 max-pool with stride 2."""

    def resized(self, resolution: int) -> int:
        return (resolution - 1) // 2 + 1

    def module(self, design: Design) -> "nn.Module":
        from torch import nn

        return nn.MaxPool2d(3, stride=2, padding=1)


Layers = tuple[Layer, ...]  # in sequence; empty: the identity


class BlockLayout(NamedTuple):
    """A residual block: its branch and its shortcut."""

    branch: Layers
    shortcut: Layers
    out_channels: int


class StageLayout(NamedTuple):
    """The blocks of one width, after a downsampling of their own or none."""

    downsampling: Layers
    blocks: tuple[BlockLayout, ...]


class Layout(NamedTuple):
    """A network: stem, stages, global average pooling, ``norm``, and a linear head on ``features`` channels."""

    stem: Layers
    stages: tuple[StageLayout, ...]
    norm: Norm | None
    features: int


def layout(design: Design) -> Layout:
    """Return the rows of a design's network; ``roadmap.networks.network.Network`` explains the rules."""
    separate = design.downsampling == "separate"
    stages: list[StageLayout] = []
    channels = design.width
    for index, depth in enumerate(design.depths if design.hierarchy == "pyramid" else [sum(design.depths)]):
        width = design.width * 2**index
        out_channels = block_out_channels(design, width)
        downsampling: Layers = ()
        if separate and index:
            downsampling = with_biases(design, [Norm("norm", channels), Conv("conv", channels, out_channels, 2, 2)])
            channels = out_channels
        first = block(design, channels, width, stride=1 if separate or not index else 2)
        other = block(design, out_channels, width, stride=1)
        stages.append(StageLayout(downsampling, (first, *[other] * (depth - 1))))
        channels = out_channels
    return Layout(stem(design), tuple(stages), Norm("norm", channels) if separate else None, channels)


def stem(design: Design) -> Layers:
    """Return the stem: stride ``patch``; for an isotropic network a stride-16 convolution without norm or activation.

    A ResNet stem of stride 2 or 1 has the 3×3 convolution that ResNets have on small images, with the max-pool at 2.
    """
    if design.hierarchy == "isotropic":
        return (Conv("conv", 3, design.width, PATCH, PATCH),)
    patchify, patch = design.stem == "patchify", design.patch
    kernel, stride = (patch, patch) if patchify else (7, 2) if patch == 4 else (3, 1)
    conv = Conv("conv", 3, design.width, kernel, stride)
    layers: list[Layer] = [conv, Norm("norm", design.width)]
    if design.activations == "every_layer":
        layers.append(Act("act"))
    if not patchify and patch > 1:
        layers.append(Pool("pool"))
    return with_biases(design, layers)


def block(design: Design, in_channels: int, width: int, stride: int) -> BlockLayout:
    """Return a block of a stage of this width; its shortcut is the identity if the shapes allow it."""
    out_channels = block_out_channels(design, width)
    shortcut: Layers = ()
    if stride != 1 or in_channels != out_channels:
        projection = Conv("conv", in_channels, out_channels, 1, stride)
        shortcut = with_biases(design, [projection, Norm("norm", out_channels)])
    return BlockLayout(with_biases(design, branch(design, in_channels, width, stride)), shortcut, out_channels)


def block_out_channels(design: Design, width: int) -> int:
    """Return the output channels of a block in a stage of this width."""
    return width * EXPANSION if design.bottleneck == "standard" else width


def branch(design: Design, in_channels: int, width: int, stride: int) -> list[Layer]:
    """Return the residual branch: 1×1, spatial k×k, 1×1. Each axis of the design edits one column of these rows."""
    standard = design.bottleneck == "standard"
    hidden, out_channels = (width, width * EXPANSION) if standard else (width * EXPANSION, width)
    first = design.depthwise_position == "first"
    every_norm, every_act = design.norms == "every_layer", design.activations == "every_layer"

    spatial_channels = in_channels if first else hidden
    groups = spatial_channels if design.conv == "depthwise" else 1
    spatial = Conv("spatial", spatial_channels, spatial_channels, design.kernel, stride, groups)
    pw_in, pw_out = Conv("pw_in", in_channels, hidden), Conv("pw_out", hidden, out_channels)

    layers: list[Layer] = []
    for row in [spatial, pw_in, pw_out] if first else [pw_in, spatial, pw_out]:
        if row is pw_in and not every_norm:
            layers.append(Norm("norm", in_channels))
        if row is pw_out and not every_act:
            layers.append(Act("act"))
        layers.append(row)
        if every_norm:
            layers.append(Norm(f"{row.name}_norm", row.out_channels))
        if every_act and row is not pw_out:
            layers.append(Act(f"{row.name}_act"))
    return layers


def with_biases(design: Design, layers: list[Layer]) -> Layers:
    """Return the rows without the bias of each convolution that BatchNorm follows directly."""
    if design.norm == "batch":
        for layer, following in pairwise(layers):
            if isinstance(layer, Conv) and isinstance(following, Norm):
                layer.bias = False
    return tuple(layers)
