"""The one network of the roadmap, built from a Design."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from roadmap.design import Design
from roadmap.recipe import NetworkRecipe

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": lambda: nn.ReLU(inplace=True), "gelu": nn.GELU}
EXPANSION = 4  # between a bottleneck's narrow and wide side, in ResNet and ConvNeXt alike


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, (N, C, H, W) -> (N, C, H, W); free of copies in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor per channel; its weight is (C,) as in the official code, so that it counts as a vector."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


@dataclass(frozen=True)
class Conv:
    """A convolution to be; padded to keep the resolution when the stride is 1 and the kernel odd."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Norm:
    name: str
    channels: int


@dataclass(frozen=True)
class Act:
    name: str


Layer = Conv | Norm | Act


def sequence(design: Design, layers: list[Layer]) -> nn.Sequential:
    """The layers as modules. Here, and only here, it is decided that a convolution directly before BN has no bias."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, Conv):
            before_batch_norm = isinstance(following, Norm) and design.norm == "batch"
            modules[layer.name] = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                layer.stride,
                padding=(layer.kernel - 1) // 2 if layer.kernel % 2 else 0,
                groups=layer.groups,
                bias=not before_batch_norm,
            )
        elif isinstance(layer, Norm):
            modules[layer.name] = norm(design, layer.channels)
        else:
            modules[layer.name] = ACTIVATIONS[design.activation]()
    return nn.Sequential(modules)


def norm(design: Design, channels: int) -> nn.Module:
    """BN or LN, each with the epsilon of the end of the road it comes from."""
    return nn.BatchNorm2d(channels) if design.norm == "batch" else LayerNorm2d(channels, eps=1e-6)


def block_layers(design: Design, in_channels: int, width: int, stride: int) -> list[Layer]:
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


class Block(nn.Module):
    """act(shortcut(x) + drop(scale(branch(x)))), (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(self, design: Design, in_channels: int, width: int, stride: int, recipe: NetworkRecipe, drop: float):
        super().__init__()
        self.branch = sequence(design, block_layers(design, in_channels, width, stride))
        out_channels = block_out_channels(design, width)
        self.scale = nn.Identity() if recipe.layer_scale is None else LayerScale(out_channels, recipe.layer_scale)
        self.drop = StochasticDepth(drop, "row") if drop else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection: list[Layer] = [Conv("conv", in_channels, out_channels, 1, stride), Norm("norm", out_channels)]
            self.shortcut = sequence(design, projection)
        self.act = ACTIVATIONS[design.activation]() if design.activations == "every_layer" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.scale(self.branch(x)))
        y += self.shortcut(x)
        return self.act(y)


def block_out_channels(design: Design, width: int) -> int:
    """Channels that leave a block of a stage of this width."""
    return width * EXPANSION if design.bottleneck == "standard" else width


def stem(design: Design) -> nn.Sequential:
    """3 channels to ``width`` at a quarter of the resolution."""
    patchify = design.stem == "patchify"
    conv = Conv("conv", 3, design.width, 4, 4) if patchify else Conv("conv", 3, design.width, 7, 2)
    layers: list[Layer] = [conv, Norm("norm", design.width)]
    if design.activations == "every_layer":
        layers.append(Act("act"))
    modules = sequence(design, layers)
    if not patchify:
        modules.append(nn.MaxPool2d(3, stride=2, padding=1))
    return modules


class Network(nn.Module):
    """Every network of the roadmap, images (N, 3, H, W) to logits (N, num_classes); arXiv:2201.03545, section 2.

    ``design`` is the architecture. ``recipe`` is what a training recipe asks of a network (layer scale, stochastic
    depth, initial weights; Table 5): it reaches the network here and nowhere else, and the enhanced recipe therefore
    adds one vector per block to the parameters, ConvNeXt's own layer scale at the end of the road.

    Where the paper is silent about a step in between, one rule holds for all of them:

    - Bias: a convolution has one unless BN follows it directly, since BN would subtract it again. LN would not.
    - The stem and a projection shortcut are followed by a norm always: both change the resolution, where the paper
      found norms to be needed (section 2.6). ``norms`` is about the residual branch: ``every_layer`` has one after each
      of its convolutions, ``one_per_block`` removes two and leaves the one that feeds the first 1x1 layer.
      ``downsampling=separate`` brings its own before each downsampling convolution and after global pooling.
    - ``activations=every_layer`` is ResNet's habit: after the stem's norm, after a block's first two convolutions, and
      after the addition. ``one_per_block`` leaves the one that feeds the last 1x1 layer; with the depthwise
      convolution moved up, that is the one between the two 1x1 layers. The stem's goes with the others, as it is not
      in ConvNeXt.
    - Shortcut: the identity where shapes allow it, else a strided 1x1 projection. With ``downsampling=separate`` only
      a standard bottleneck's first block needs one, for the channels (``width`` from the stem, 4 ``width`` after).
    - ``depthwise_position=first``: a stage's first block filters its input's channels, at the stride; the hidden width
      is reckoned from the output's. The published FLOPs settle this.
    - Stochastic depth rises linearly from 0 at the first block to the recipe's rate at the last.
    - Initial weights follow the recipe, as the paper lists them there: Kaiming (fan-out) as in torchvision's ResNet, or
      a normal of std 0.02 (cut off at -2 and 2, as the official code has it). Biases of convolutions start at zero. For
      fine-tuning the recipe scales the classifier's weights and biases down (``head_init_scale``).
    """

    def __init__(self, design: Design, recipe: NetworkRecipe, num_classes: int):
        super().__init__()
        self.design, self.num_classes = design, num_classes
        widths = [design.width * 2**stage for stage in range(len(design.depths))]
        drops = iter(torch.linspace(0, recipe.stochastic_depth, sum(design.depths), device="cpu").tolist())
        separate = design.downsampling == "separate"

        self.stem = stem(design)
        self.downsampling, self.stages = nn.ModuleList(), nn.ModuleList()
        channels = design.width
        for index, (depth, width) in enumerate(zip(design.depths, widths, strict=True)):
            between = separate and index > 0
            out_channels = block_out_channels(design, width)
            self.downsampling.append(
                sequence(design, [Norm("norm", channels), Conv("conv", channels, out_channels, 2, 2)])
                if between
                else nn.Identity()
            )
            channels = out_channels if between else channels
            stage = nn.Sequential()
            for block in range(depth):
                stride = 2 if index > 0 and block == 0 and not separate else 1
                stage.append(Block(design, channels, width, stride, recipe, next(drops)))
                channels = out_channels
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = norm(design, channels) if separate else nn.Identity()
        self.head = nn.Linear(channels, num_classes)
        initialise(self, recipe.weight_init)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(recipe.head_init_scale)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for downsample, stage in zip(self.downsampling, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(self.pool(x)).flatten(1))


def initialise(network: nn.Module, scheme: str) -> None:
    """Draw a network's initial weights: ``kaiming`` as torchvision's ResNet (arXiv:1502.01852), or ``trunc_normal``.

    Kaiming leaves the classifier at torch's own start, as torchvision does.
    """
    if next(network.parameters()).is_meta:  # nothing to draw
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and scheme == "kaiming":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear) and scheme == "trunc_normal":
            nn.init.trunc_normal_(module.weight, std=0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
