"""Modules that torch lacks."""

import torch
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W) or (N, C), with statistics in fp32 and the input's dtype.

    Autocast would return fp32, twice the memory traffic. In channels_last nothing is copied.
    """

    def forward(self, x: Tensor) -> Tensor:
        # autocast does not know this operator; on GPUs it takes weights of the input's dtype only
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1)
        x = torch.native_layer_norm(x, self.normalized_shape, weight, bias, self.eps)[0]
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


class LayerScale(nn.Module):
    """A learned factor per channel. Its weight is (C,), as in the official code, so that it counts as a vector.

    Keeps the dtype of fp32 and bf16; fp16, in which the usual initial 1e-6 has no precision, becomes fp32.
    """

    zeros: Tensor
    ones: Tensor

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), initial))
        self.register_buffer("zeros", torch.zeros(channels), persistent=False)
        self.register_buffer("ones", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float16:
            return x * self.weight.view(-1, 1, 1)
        # BN with constant statistics: one operator forward and one backward, instead of three and four
        return torch.native_batch_norm(x, self.weight, None, self.zeros, self.ones, False, 0.0, 0.0)[0]


class ScalableConv2d(nn.Conv2d):
    """A convolution that can fold a layer scale (out,) into its weights, which saves a pass over the output."""

    def forward(self, x: Tensor, factors: Tensor | None = None) -> Tensor:
        if factors is None:
            return super().forward(x)
        bias = None if self.bias is None else self.bias * factors
        return self._conv_forward(x, self.weight * factors.view(-1, 1, 1, 1), bias)
