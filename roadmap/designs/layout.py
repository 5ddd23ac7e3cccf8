"""A network of the roadmap as rows: which layers it has, of which sizes, in which order. Knows no torch."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from roadmap.records.design import Design

PATCH = 16  # pixels a side of an isotropic network's patches
EXPANSION = 4  # between a bottleneck's narrow and wide side, in ResNet and ConvNeXt alike


class Conv(NamedTuple):
    """A convolution to be; padded to keep the resolution when the stride is 1 and the kernel odd."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = True

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2 if self.kernel % 2 else 0

    def resized(self, resolution: int) -> int:
        """Pixels a side that come out of so many."""
        return (resolution + 2 * self.padding - self.kernel) // self.stride + 1


class Norm(NamedTuple):
    name: str
    channels: int


class Act(NamedTuple):
    name: str


class Pool(NamedTuple):
    """A 3x3 max-pool of stride 2."""

    name: str

    def resized(self, resolution: int) -> int:
        """Pixels a side that come out of so many."""
        return (resolution - 1) // 2 + 1


Layer = Conv | Norm | Act | Pool
Layers = tuple[Layer, ...]  # one after the other; none: the identity


class BlockLayout(NamedTuple):
    """A residual block: its branch, and what its input passes through to be added to it."""

    branch: Layers
    shortcut: Layers
    out_channels: int


class StageLayout(NamedTuple):
    """Blocks of equal width; only the first may differ from the others, which all are ``other``."""

    downsampling: Layers
    first: BlockLayout
    other: BlockLayout
    depth: int

    def blocks(self) -> Iterator[BlockLayout]:
        """Each block in order."""
        for index in range(self.depth):
            yield self.other if index else self.first


class Layout(NamedTuple):
    """A whole network: stem, stages, mean over all pixels, ``norm``, and a linear head on ``features`` channels."""

    stem: Layers
    stages: tuple[StageLayout, ...]
    norm: Norm | None
    features: int


def layout(design: Design) -> Layout:
    """The rows of a design's network; what they mean is told at ``roadmap.networks.network.Network``."""
    separate = design.downsampling == "separate"
    if design.hierarchy == "isotropic":
        stage = isotropic_stage(design)
        features = stage.other.out_channels
        return Layout(stem(design), (stage,), Norm("norm", features) if separate else None, features)
    stages: list[StageLayout] = []
    channels = design.width
    for index, depth in enumerate(design.depths):
        width = design.width * 2**index
        out_channels = block_out_channels(design, width)
        downsampling: Layers = ()
        if separate and index:
            downsampling = with_biases(design, [Norm("norm", channels), Conv("conv", channels, out_channels, 2, 2)])
            channels = out_channels
        first = block(design, channels, width, stride=1 if separate or not index else 2)
        other = block(design, out_channels, width, stride=1) if depth > 1 else first
        stages.append(StageLayout(downsampling, first, other, depth))
        channels = out_channels
    return Layout(stem(design), tuple(stages), Norm("norm", channels) if separate else None, channels)


def isotropic_stage(design: Design) -> StageLayout:
    """All blocks as one stage of equal width, none of which changes the resolution."""
    first = block(design, design.width, design.width, stride=1)
    depth = sum(design.depths)
    other = block(design, block_out_channels(design, design.width), design.width, stride=1) if depth > 1 else first
    return StageLayout((), first, other, depth)


def stem(design: Design) -> Layers:
    """3 channels to ``width`` at a quarter of the resolution, or a sixteenth without any norm for an isotropic one."""
    if design.hierarchy == "isotropic":
        return (Conv("conv", 3, design.width, PATCH, PATCH),)
    patchify = design.stem == "patchify"
    conv = Conv("conv", 3, design.width, 4, 4) if patchify else Conv("conv", 3, design.width, 7, 2)
    layers: list[Layer] = [conv, Norm("norm", design.width)]
    if design.activations == "every_layer":
        layers.append(Act("act"))
    if not patchify:
        layers.append(Pool("pool"))
    return with_biases(design, layers)


def block(design: Design, in_channels: int, width: int, stride: int) -> BlockLayout:
    """A block of a stage of this width; its shortcut is the identity where shapes allow it."""
    out_channels = block_out_channels(design, width)
    shortcut: Layers = ()
    if stride != 1 or in_channels != out_channels:
        projection = Conv("conv", in_channels, out_channels, 1, stride)
        shortcut = with_biases(design, [projection, Norm("norm", out_channels)])
    return BlockLayout(with_biases(design, branch(design, in_channels, width, stride)), shortcut, out_channels)


def block_out_channels(design: Design, width: int) -> int:
    """Channels that leave a block of a stage of this width."""
    return width * EXPANSION if design.bottleneck == "standard" else width


def branch(design: Design, in_channels: int, width: int, stride: int) -> list[Layer]:
    """The residual branch as rows: 1x1, spatial kxk, 1x1, each axis of the design editing one column of them."""
    standard = design.bottleneck == "standard"
    hidden, out_channels = (width, width * EXPANSION) if standard else (width * EXPANSION, width)
    first = design.depthwise_position == "first"
    every_norm, every_act = design.norms == "every_layer", design.activations == "every_layer"

    spatial_channels = in_channels if first else hidden
    groups = spatial_channels if design.conv == "depthwise" else 1
    spatial = Conv("spatial", spatial_channels, spatial_channels, design.kernel, stride, groups)
    enter, leave = Conv("enter", in_channels, hidden), Conv("leave", hidden, out_channels)

    layers: list[Layer] = []
    for row in [spatial, enter, leave] if first else [enter, spatial, leave]:
        if row is enter and not every_norm:
            layers.append(Norm("norm", in_channels))
        if row is leave and not every_act:
            layers.append(Act("act"))
        layers.append(row)
        if every_norm:
            layers.append(Norm(f"{row.name}_norm", row.out_channels))
        if every_act and row is not leave:
            layers.append(Act(f"{row.name}_act"))
    return layers


def with_biases(design: Design, layers: list[Layer]) -> Layers:
    """The rows with their biases settled: a convolution directly before BN has none. Here, and only here."""
    if design.norm == "batch":
        for index, (layer, following) in enumerate(pairwise(layers)):
            if isinstance(layer, Conv) and isinstance(following, Norm):
                layers[index] = layer._replace(bias=False)
    return tuple(layers)
