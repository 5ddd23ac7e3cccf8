"""Modules that torch lacks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


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
    """A convolution that can fold a layer scale (out,) into its weights, which saves a pass over the output.

    ``linear``: compute a 1×1 convolution as a linear layer, which is other libraries' work; None: where measured to be
    faster, on a CPU in channels_last.
    """

    linear: bool | None = None

    def forward(self, x: Tensor, factors: Tensor | None = None) -> Tensor:
        weight, bias = self.weight, self.bias
        if factors is not None:
            weight, bias = weight * factors.view(-1, 1, 1, 1), None if bias is None else bias * factors
        if self.kernel_size == self.stride == (1, 1) and self.groups == 1 and self.is_linear(x):
            if weight.stride(3) != 1:  # channels_last, which the gradient then has too, as DDP wants it
                weight = weight.permute(0, 2, 3, 1)
            return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        height, width = self.kernel_size
        beyond = height > 2 * x.shape[2] - 1 or width > 2 * x.shape[3] - 1
        if beyond and self.stride == (1, 1) and x.device.type == "cpu":  # where it was measured to be faster
            return self.forward_on_small_map(x, weight, bias)
        return self._conv_forward(x, weight, bias)

    def forward_on_small_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve without the weights that meet padding alone: on 2×2 pixels 3×3 of 7×7 weights meet an image."""
        unused = [max(size // 2 + 1 - pixels, 0) for size, pixels in zip(self.kernel_size, x.shape[2:], strict=True)]
        rows, columns = (slice(cut, size - cut) for cut, size in zip(unused, self.kernel_size, strict=True))
        padding = [size // 2 - cut for cut, size in zip(unused, self.kernel_size, strict=True)]
        return conv2d(x, weight[:, :, rows, columns], bias, padding=padding, groups=self.groups)

    def is_linear(self, x: Tensor) -> bool:
        """Return whether to compute a linear layer of an input."""
        if self.linear is None:
            return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        return self.linear


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Undo what happens to the running statistics of the module's batch norms."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)  # autograd has saved the buffer, and would refuse it after a change that it sees


def recomputed(module: nn.Module, x: Tensor, *, random: bool) -> Tensor:
    """Return ``module(x)`` without keeping its activations: the backward pass computes them again, with equal results.

    ``random``: whether the module draws random numbers, of which the same are drawn again.
    """
    if torch.compiler.is_compiling():  # where buffers change only once
        return checkpoint(module, x, use_reentrant=False, preserve_rng_state=random)
    contexts = (nullcontext(), unchanged_statistics(module))
    return checkpoint(module, x, use_reentrant=False, preserve_rng_state=random, context_fn=lambda: contexts)
