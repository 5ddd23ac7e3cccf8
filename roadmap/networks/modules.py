"""Modules that torch lacks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, unfold
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


class SmallMapDepthwise(torch.autograd.Function):
    """A depthwise convolution of odd size that keeps the size of (N, C, H, W), with its own gradient of the weights.

    For weights of 5×5 and more oneDNN's takes several times as long as the forward pass. Here a matrix product per
    channel multiplies each pixel of the inputs with each of the output gradients and sums over the images; a weight's
    gradient is the sum of the pairs at its distance. That is (H·W)² products per image and channel: for small maps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight, bias, padding=[size // 2 for size in weight.shape[2:]], groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        x_gradient = weight_gradient = None
        if needs_x:
            padding = [size // 2 for size in weight.shape[2:]]
            x_gradient = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], x.shape[1], [True, False, False]
            )[0]
        if needs_weight:
            found = depthwise_weight_gradient(x, gradient, (weight.shape[2], weight.shape[3]))
            # the parameter's strides, as DDP and fused optimizers want them
            weight_gradient = found.as_strided(found.shape, weight.stride()) if weight.is_contiguous() else found
        return x_gradient, weight_gradient, gradient.sum((0, 2, 3)) if needs_bias else None


def depthwise_weight_gradient(x: Tensor, gradient: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Return the gradient (C, 1, kh, kw) of depthwise weights from the inputs and the output gradients (N, C, H, W)."""
    images, channels, height, width = x.shape
    # a single transposition each if in channels_last
    pixels, gradients = (
        part.permute(0, 2, 3, 1).reshape(-1, channels).t().contiguous().view(channels, images, -1)
        for part in (x, gradient)
    )
    pairs = torch.bmm(pixels.transpose(1, 2), gradients).view(channels, -1)
    return (pairs @ pairs_of_weights(height, width, kernel_size, x.dtype)).view(channels, 1, *kernel_size)


@cache
def pairs_of_weights(height: int, width: int, kernel_size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return (H·W·H·W, kh·kw): 1 where a weight multiplies the first pixel for the second one, 0 elsewhere."""
    one_hot = torch.eye(height * width, dtype=dtype).view(-1, 1, height, width)
    windows = unfold(one_hot, kernel_size, padding=(kernel_size[0] // 2, kernel_size[1] // 2))
    return windows.transpose(1, 2).reshape(-1, kernel_size[0] * kernel_size[1])


class ScalableConv2d(nn.Conv2d):
    """A convolution that can fold a layer scale (out,) into its weights, which saves a pass over the output.

    ``linear``: compute a 1×1 convolution as a linear layer, which is other libraries' work; None: where measured to be
    faster, on a CPU in channels_last, where a small map's 2×2 convolution of stride 2 is one too.
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
        if self.is_patch_linear(x):
            # (N, H/2, 2, W/2, 2, C) -> (N, H/2, W/2, 4 C)
            patches = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)
            return linear(patches, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
        height, width = self.kernel_size
        beyond = height > 2 * x.shape[2] - 1 or width > 2 * x.shape[3] - 1
        if beyond and self.stride == (1, 1) and x.device.type == "cpu":  # where it was measured to be faster
            return self.forward_on_small_map(x, weight, bias)
        if self.padding == (height // 2, width // 2) and self.has_fast_weight_gradient(x, weight):
            return SmallMapDepthwise.apply(x, weight, bias)
        return self._conv_forward(x, weight, bias)

    def forward_on_small_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve without the weights that meet padding alone: on 2×2 pixels 3×3 of 7×7 weights meet an image."""
        unused = [max(size // 2 + 1 - pixels, 0) for size, pixels in zip(self.kernel_size, x.shape[2:], strict=True)]
        rows, columns = (slice(cut, size - cut) for cut, size in zip(unused, self.kernel_size, strict=True))
        weight = weight[:, :, rows, columns]
        if self.has_fast_weight_gradient(x, weight):
            return SmallMapDepthwise.apply(x, weight, bias)
        return conv2d(x, weight, bias, padding=[size // 2 for size in weight.shape[2:]], groups=self.groups)

    def has_fast_weight_gradient(self, x: Tensor, weight: Tensor) -> bool:
        """Return whether ``SmallMapDepthwise`` was measured to be faster; oneDNN is fast with kernels of 3×3."""
        pixels, sizes = x.shape[2] * x.shape[3], weight.shape[2:]
        depthwise = self.groups == self.in_channels == self.out_channels and self.stride == self.dilation == (1, 1)
        same_size = sizes[0] % 2 == sizes[1] % 2 == 1 and self.padding_mode == "zeros"
        faster = 1 < pixels <= 4 or (pixels <= 64 and min(sizes) > 3)
        return depthwise and same_size and faster and torch.is_grad_enabled() and is_eager_cpu(x)

    def is_patch_linear(self, x: Tensor) -> bool:
        """Return whether to compute a 2×2 convolution of stride 2 as a linear layer: where measured to be faster."""
        downsamples = self.kernel_size == self.stride == (2, 2) and self.groups == 1 and self.padding == (0, 0)
        fits = x.shape[2] % 2 == x.shape[3] % 2 == 0 and x.shape[2] * x.shape[3] <= 196 and self.in_channels > 3
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        return self.linear is None and downsamples and fits and channels_last and is_eager_cpu(x)

    def is_linear(self, x: Tensor) -> bool:
        """Return whether to compute a linear layer of an input."""
        if self.linear is None:
            return x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        return self.linear


def is_eager_cpu(x: Tensor) -> bool:
    """Return whether an operation runs uncompiled on a CPU, in fp32 or fp64."""
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and full and not torch.compiler.is_compiling()


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
