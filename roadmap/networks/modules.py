"""Modules that torch lacks."""

import torch
from torch import Tensor, nn


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
