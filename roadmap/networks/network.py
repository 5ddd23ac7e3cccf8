"""The one network of the roadmap, built from a Design's rows."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from roadmap.networks.modules import LayerScale, ScalableConv2d
from roadmap.networks.rows import Act, BlockLayout, Layers, layout
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe


def sequence(design: Design, layers: Layers) -> nn.Module:
    """The layers as modules under their names; of none the identity."""
    if not layers:
        return nn.Identity()
    return nn.Sequential(OrderedDict((layer.name, layer.module(design)) for layer in layers))


class Block(nn.Module):
    """act(shortcut(x) + drop(scale(branch(x)))), (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(self, design: Design, rows: BlockLayout, recipe: NetworkRecipe, drop: float):
        super().__init__()
        self.branch = sequence(design, rows.branch)
        initial = recipe.layer_scale
        self.scale = nn.Identity() if initial is None else LayerScale(rows.out_channels, initial)
        self.drop = StochasticDepth(drop, "row") if drop else nn.Identity()
        self.shortcut = sequence(design, rows.shortcut)
        self.act = Act("act").module(design) if design.activations == "every_layer" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y, x = self.drop(self.scaled(x)), self.shortcut(x)
        # in place, unless that would round the shortcut to the branch's precision
        y = y.add_(x) if y.dtype == x.dtype else y + x
        return self.act(y)

    def scaled(self, x: Tensor) -> Tensor:
        """scale(branch(x)), with the scale in a last convolution's weights where they are fewer than its outputs."""
        *layers, last = self.branch.children()
        for layer in layers:
            x = layer(x)
        if isinstance(self.scale, LayerScale) and isinstance(last, ScalableConv2d):
            pixels = x.numel() // x.shape[1]
            # fp16 has no weight times 1e-6, where layer scale starts
            if pixels >= last.in_channels and not _in_fp16(x):
                return last(x, self.scale.weight)
        return self.scale(last(x))


def _in_fp16(x: Tensor) -> bool:
    kind = x.device.type
    there = torch.amp.is_autocast_available(kind)  # not on the meta device
    return there and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


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
    - ``hierarchy=isotropic`` (section 3.3): one stage of all the blocks, at a sixteenth of the resolution after a stem
      that is one convolution with a bias and neither norm nor activation, as in ViT.
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
        drops = iter(torch.linspace(0, recipe.stochastic_depth, sum(design.depths), device="cpu").tolist())
        rows = layout(design)

        self.stem = sequence(design, rows.stem)
        self.downsampling, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage in rows.stages:
            self.downsampling.append(sequence(design, stage.downsampling))
            self.stages.append(nn.Sequential(*(Block(design, block, recipe, next(drops)) for block in stage.blocks())))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = rows.norm.module(design) if rows.norm else nn.Identity()
        self.head = nn.Linear(rows.features, num_classes)
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
