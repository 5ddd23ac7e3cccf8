"""Modules that torch lacks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, (N, C, H, W) -> (N, C, H, W); copies nothing in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor per channel. Its weight is (C,), as in the official code, so that it counts as a vector."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


class ScalableConv2d(nn.Conv2d):
    """A convolution that can fold a layer scale (out,) into its weights, which saves a pass over the output."""

    def forward(self, x: Tensor, factors: Tensor | None = None) -> Tensor:
        if factors is None:
            return super().forward(x)
        bias = None if self.bias is None else self.bias * factors
        return self._conv_forward(x, self.weight * factors[:, None, None, None], bias)
