"""LayerNorm, layer scale, and what a network costs in operators and precision."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.convnext import LayerNorm2d as TorchvisionLayerNorm2d

from roadmap.config.build import build
from roadmap.networks.modules import LayerNorm2d, LayerScale
from roadmap.networks.network import Block, carry_out

CONVNEXT = "step=separate_downsampling"
LAYOUTS = [torch.channels_last, torch.contiguous_format]


class Operators(TorchDispatchMode):
    """Counts the operators that torch dispatches, and keeps the sizes of their outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.outputs.append((func.__name__.split(".")[0], found.numel() if isinstance(found, Tensor) else 0))
        return found


class CudaAutocast(TorchFunctionMode):
    """Casts what autocast on CUDA, but not on a CPU, casts to fp32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.functional.layer_norm, torch.layer_norm):
            args = tuple(value.float() if isinstance(value, Tensor) else value for value in args)
        return func(*args, **(kwargs or {}))


def with_random_weights(norm: nn.LayerNorm) -> nn.LayerNorm:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(48, generator=generator))
    return norm


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layer_norm_equals_torchvisions_to_the_bit(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    norms = LayerNorm2d(48, eps=1e-6), TorchvisionLayerNorm2d(48, eps=1e-6)
    for norm in norms:
        with_random_weights(norm)
    assert list(norms[0].state_dict()) == list(norms[1].state_dict())
    x = torch.randn(4, 48, 7, 7).to(memory_format=layout).requires_grad_()
    results = []
    for norm in norms:
        y = norm(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, *norm.parameters()])))
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)
    assert results[0][0].stride() == results[1][0].stride()
    pooled = norms[0](x.detach().mean((2, 3)))
    assert torch.equal(pooled, norms[1](x.detach().mean((2, 3), keepdim=True)).flatten(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layer_norm_keeps_halves_without_a_copy(dtype: torch.dtype) -> None:
    """The statistics are in fp32: of an offset of 100, bf16 keeps a half, and its mean would be off by as much."""
    torch.manual_seed(0)
    norm = with_random_weights(LayerNorm2d(48, eps=1e-6))
    x = (torch.randn(4, 48, 7, 7) * 10 + 100).to(dtype, memory_format=torch.channels_last).requires_grad_()
    with Operators() as operators, torch.autocast("cpu", dtype=dtype), CudaAutocast():
        y = norm(x)
        y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert y.dtype == x.grad.dtype == dtype
    copies = [name for name, size in operators.outputs if size > 48 and name in ("_to_copy", "clone", "copy_")]
    assert not copies
    wide = x.detach().float()
    exact = nn.functional.layer_norm(wide.permute(0, 2, 3, 1), (48,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)
    # three roundings: of the weight, of the bias and of the result
    torch.testing.assert_close(y.float(), exact, rtol=0, atol=3 * torch.finfo(dtype).eps * exact.abs().max().item())


def test_layer_scale_is_a_multiplication() -> None:
    torch.manual_seed(0)
    scale = LayerScale(48, 1e-6)
    assert list(scale.state_dict()) == ["weight"]
    with torch.no_grad():
        scale.weight.normal_()
    x = torch.randn(4, 48, 7, 7).to(memory_format=torch.channels_last).requires_grad_()
    results = []
    for y in (scale(x), x * scale.weight[:, None, None]):
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, scale.weight])))
    assert torch.equal(results[0][0], results[1][0])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("step", ["inverted_bottleneck", "separate_downsampling"])
@pytest.mark.parametrize(("residual", "expected"), [("fp32", torch.float32), ("autocast", torch.bfloat16)])
def test_precision_of_the_blocks_sums_does_not_depend_on_the_batch(
    step: str, residual: str, expected: torch.dtype
) -> None:
    network = build(f"step={step}", f"recipe.network.residual={residual}").eval()  # BN takes no single image
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    found: list[torch.dtype] = []
    for block in blocks:
        block.register_forward_hook(lambda _, inputs, output: found.append(output.dtype))
    for batch in (1, 16, 64, 256):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            network(torch.randn(batch, 3, 32, 32))
    assert found == [expected] * 4 * len(blocks)


def test_operators_of_an_update() -> None:
    """Forward and backward of ConvNeXt, as on a GPU; a LayerNorm takes six, of which four are views."""
    network = build(CONVNEXT).to(memory_format=torch.channels_last)
    carry_out(network, checkpoint_stages=0, pointwise_linear=False)
    images = torch.randn(256, 3, 32, 32).to(memory_format=torch.channels_last)
    with Operators() as operators:
        logits = network(images)
        torch.autograd.grad(logits, [*network.parameters()], torch.ones_like(logits))
    counts = Counter(name for name, _ in operators.outputs)
    assert 0 < sum(counts.values()) <= 160, counts
