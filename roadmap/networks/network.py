"""The network of the roadmap, built from a design's rows."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from roadmap.networks.modules import LayerScale, ScalableConv2d, recomputed
from roadmap.networks.rows import Act, BlockLayout, Layers, layout
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe


def sequence(design: Design, layers: Layers) -> nn.Module:
    """Return the layers as a module with their names; the identity if there are none."""
    if not layers:
        return nn.Identity()
    return nn.Sequential(OrderedDict((layer.name, layer.module(design)) for layer in layers))


FOLDED_OUTPUTS = 2**21  # elements from which on a layer scale is folded into the weights


class Block(nn.Module):
    """act(shortcut(x) + drop(scale(branch(x)))), (N, in, H, W) -> (N, out, H/stride, W/stride).

    With layer scale, the sum is in fp32 also under autocast unless the recipe's ``residual`` is ``autocast``: in the
    authors' code the fp32 scale makes it so. Without, it has the dtype that autocast gives it, as in torchvision.
    """

    def __init__(self, design: Design, rows: BlockLayout, recipe: NetworkRecipe, drop: float):
        super().__init__()
        self.branch = sequence(design, rows.branch)
        initial = recipe.layer_scale
        self.scale = nn.Identity() if initial is None else LayerScale(rows.out_channels, initial)
        self.fp32_sum = initial is not None and recipe.residual == "fp32"
        self.drop = StochasticDepth(drop, "row") if drop else nn.Identity()
        self.shortcut = sequence(design, rows.shortcut)
        self.act = Act("act").module(design) if design.activations == "every_layer" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y, x = self.drop(self.scaled(x)), self.shortcut(x)
        if self.fp32_sum and x.dtype.itemsize == 2:
            x = x.float()
        # not in place if that would round the sum
        y = y.add_(x) if y.dtype == x.dtype else (x + y).to(x.dtype)
        return self.act(y)

    def scaled(self, x: Tensor) -> Tensor:
        """Return scale(branch(x)), with the scale folded into the last convolution of large outputs.

        That saves a pass over them and their memory, but takes ten operators instead of two.
        """
        *layers, last = self.branch.children()
        for layer in layers:
            x = layer(x)
        if isinstance(self.scale, LayerScale) and isinstance(last, ScalableConv2d):
            outputs = x.numel() // last.in_channels * last.out_channels
            # weights times layer scale's initial 1e-6 underflow in fp16
            if outputs >= FOLDED_OUTPUTS and not _in_fp16(x):
                return last(x, self.scale.weight)
        return self.scale(last(x))


def _in_fp16(x: Tensor) -> bool:
    kind = x.device.type
    available = torch.amp.is_autocast_available(kind)  # not on the meta device
    return available and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


class Network(nn.Module):
    """Every network of the roadmap, images (N, 3, H, W) to logits (N, num_classes); arXiv:2201.03545, section 2.

    ``design`` is the architecture. ``recipe`` sets layer scale, stochastic depth and initial weights (Table 5). With
    the enhanced recipe every step has layer scale, one vector per block.

    The paper does not specify every intermediate network. These rules hold for all of them:

    - Bias: every convolution has one unless BN follows directly.
    - Norms: the stem and projection shortcuts always have one, since they change the resolution (section 2.6). In the
      residual branch, ``norms=every_layer`` has one after each convolution; ``one_per_block`` keeps only the one before
      the first 1×1 layer. ``downsampling=separate`` adds one before each downsampling convolution and one after global
      pooling.
    - Activations: ``every_layer`` has one after the stem's norm, after a block's first two convolutions, and after the
      addition, as ResNet does. ``one_per_block`` keeps only the one before the last 1×1 layer, and none in the stem.
    - ``hierarchy=isotropic`` (section 3.3): all blocks in one stage at 1/16 of the resolution, after a stem of one
      convolution with a bias and neither norm nor activation, as in ViT.
    - Shortcut: the identity if shapes allow it, else a strided 1×1 projection. With ``downsampling=separate`` only the
      first block of a standard bottleneck needs one.
    - ``depthwise_position=first``: a stage's first block filters its input channels, at the stride; the hidden width
      follows the output channels. The published FLOPs confirm this.
    - Stochastic depth increases linearly from 0 at the first block to the recipe's rate at the last.
    - Initial weights: Kaiming (fan-out) as in torchvision's ResNet, or truncated normal (std 0.02) as in the official
      code; biases are zero. ``head_init_scale`` scales the classifier down for fine-tuning.
    """

    def __init__(self, design: Design, recipe: NetworkRecipe, num_classes: int):
        super().__init__()
        self.design, self.num_classes = design, num_classes
        self.checkpoint_stages = 0  # the first ones, whose blocks' activations the backward pass computes again
        drops = iter(torch.linspace(0, recipe.stochastic_depth, sum(design.depths), device="cpu").tolist())
        rows = layout(design)

        self.stem = sequence(design, rows.stem)
        self.downsampling, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage in rows.stages:
            self.downsampling.append(sequence(design, stage.downsampling))
            self.stages.append(nn.Sequential(*(Block(design, block, recipe, next(drops)) for block in stage.blocks)))
        self.norm = rows.norm.module(design) if rows.norm else nn.Identity()
        self.head = nn.Linear(rows.features, num_classes)
        initialise(self, recipe.weight_init)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(recipe.head_init_scale)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for index, (downsample, stage) in enumerate(zip(self.downsampling, self.stages, strict=True)):
            x = downsample(x)
            if index < self.checkpoint_stages and self.training and torch.is_grad_enabled():
                for block in stage.children():
                    x = recomputed(block, x, random=isinstance(block.drop, StochasticDepth))
            else:
                x = stage(x)
        # BatchNorm2d wants four dimensions; for LayerNorm two save the permutations
        x = x.mean((2, 3), keepdim=isinstance(self.norm, nn.BatchNorm2d))
        return self.head(self.norm(x).flatten(1))


def carry_out(network: nn.Module, checkpoint_stages: int, pointwise_linear: Literal["auto"] | bool) -> None:
    """Set how one of our own networks is computed: to equal results, with ``pointwise_linear`` up to rounding."""
    if isinstance(network, Network):
        network.checkpoint_stages = checkpoint_stages
    for module in network.modules():
        if isinstance(module, ScalableConv2d):
            module.linear = None if pointwise_linear == "auto" else pointwise_linear


def initialise(network: nn.Module, scheme: str) -> None:
    """Initialize weights by ``kaiming`` (arXiv:1502.01852) or ``trunc_normal``.

    Kaiming keeps torch's default for the classifier, as torchvision does.
    """
    if next(network.parameters()).is_meta:
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
