"""LayerNorm, layer scale, and what a network costs in operators and precision."""

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.convnext import LayerNorm2d as TorchvisionLayerNorm2d

from roadmap.config.build import build
from roadmap.networks.batch_norm import RunningStatistics, with_ghost_batches
from roadmap.networks.modules import LayerNorm2d, LayerScale, ScalableConv2d, SmallMapDepthwise
from roadmap.networks.network import Block, carry_out
from roadmap.steps.path import compose_path

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


def test_operators_of_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward of ConvNeXt, as on a GPU; a LayerNorm takes six, of which four are views."""
    monkeypatch.setattr("roadmap.networks.modules.is_eager_cpu", lambda x: False)
    network = build(CONVNEXT).to(memory_format=torch.channels_last)
    carry_out(network, checkpoint_stages=0, pointwise_linear=False)
    images = torch.randn(4, 3, 256, 256).to(memory_format=torch.channels_last)
    with Operators() as operators:
        logits = network(images)
        torch.autograd.grad(logits, [*network.parameters()], torch.ones_like(logits))
    counts = Counter(name for name, _ in operators.outputs)
    assert 0 < sum(counts.values()) <= 160, counts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_1x1_convolutions_as_linear_layers(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal up to rounding with layer scale folded and not, under the same names; chosen on a CPU, and for 2×2 too."""
    torch.manual_seed(0)
    network = randomised(build(CONVNEXT)).to(memory_format=layout)
    images = torch.randn(8, 3, 32, 32).to(memory_format=layout)
    names = list(network.state_dict())
    for folded in (2**21, 0):
        monkeypatch.setattr("roadmap.networks.network.FOLDED_OUTPUTS", folded)
        results, products = [], []
        for setting in (False, True, "auto"):
            carry_out(network, checkpoint_stages=0, pointwise_linear=setting)
            with Operators() as operators:
                results.append(gradients_of(network, images))
            products.append(sum(name == "addmm" for name, _ in operators.outputs))
        assert list(network.state_dict()) == names
        for one, *others in zip(*results, strict=True):
            for other in others:
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert products == [1, 13, 16]
        for gradient, parameter in zip(results[1][1:], network.parameters(), strict=True):
            assert parameter.shape[2:] != (1, 1) or gradient.stride() == parameter.stride()


def randomised(network: nn.Module) -> nn.Module:
    """Layer scale that is not next to nothing."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "scale" in name:
                parameter.uniform_(0.5, 1.5)
    return network


def gradients_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    logits = network(images)
    return [logits, *torch.autograd.grad(logits.logsumexp(1).sum(), [*network.parameters()])]


def kept_bytes(network: nn.Module, images: Tensor) -> int:
    """The memory that the backward pass needs, in bytes."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(images)
    logits.sum().backward()
    return sum(storages.values())


@pytest.mark.parametrize(
    ("step", "compiled"),
    [("step=resnet50", False), (CONVNEXT, False), pytest.param(CONVNEXT, True, marks=pytest.mark.slow)],
)
def test_recomputed_activations_change_nothing(step: str, compiled: bool) -> None:
    """Two micro batches with stochastic depth and ghost batches: loss, gradients and statistics to the bit."""
    images = torch.randn(2, 16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    results, kept = [], []
    for stages in (0, 2) if compiled else (0, 2, 4):
        torch.manual_seed(1)
        words = [step, "norm=batch", "recipe=enhanced", "recipe.network.stochastic_depth=0.5"]
        network = with_ghost_batches(randomised(build(*words)), groups=2)
        carry_out(network, checkpoint_stages=stages, pointwise_linear="auto")
        kept.append(kept_bytes(copy.deepcopy(network), images[0]))
        torch.compiler.reset()
        forward = torch.compile(network, backend="aot_eager") if compiled else network
        torch.manual_seed(2)
        losses = []
        for part in images:
            losses.append(forward(part).logsumexp(1).sum())
            losses[-1].backward()
        RunningStatistics(network).update()
        results.append([*losses, *(p.grad for p in network.parameters()), *network.state_dict().values()])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)
    assert kept == sorted(kept, reverse=True)
    assert kept[1] < 0.75 * kept[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 5), (4, 4)])
@pytest.mark.parametrize("kernel", [3, 7, 11])
def test_kernels_larger_than_the_map(kernel: int, size: tuple[int, int]) -> None:
    """Outputs and gradients are those of torch's convolution with the whole kernel; weights keep their shape."""
    conv = ScalableConv2d(8, 8, kernel, padding=kernel // 2, groups=8).double()
    x = torch.randn(3, 8, *size, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.conv2d(x, conv.weight, conv.bias, padding=kernel // 2, groups=8)
    found = conv(x)
    torch.testing.assert_close(found, expected)
    weights, upstream = (x, *conv.parameters()), torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, weights, upstream), torch.autograd.grad(expected, weights, upstream), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.fixture(scope="module")
def convolutions_of_the_steps() -> list[tuple[ScalableConv2d, tuple[int, ...]]]:
    """Every different convolution of nano's and cifar's steps, with its input's shape for three images."""
    found = {}
    for regime in ("nano", "cifar"):
        for step in compose_path([f"regime={regime}"]):
            network = build(f"regime={regime}", f"step={step.name}").eval()

            def note(conv: nn.Module, inputs: tuple[Tensor]) -> None:
                assert isinstance(conv, ScalableConv2d)
                shape = tuple(inputs[0].shape)
                found[conv.extra_repr(), shape] = conv, shape

            for module in network.modules():
                if isinstance(module, ScalableConv2d):
                    module.register_forward_pre_hook(note)
            with torch.no_grad():
                network(torch.zeros(3, 3, 32, 32))
    return list(found.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_all_convolutions_of_the_steps(
    layout: torch.memory_format, convolutions_of_the_steps: list[tuple[ScalableConv2d, tuple[int, ...]]]
) -> None:
    """Outputs, gradients and their strides are those of torch's convolution."""
    torch.manual_seed(0)
    own = 0
    for conv, shape in convolutions_of_the_steps:
        conv = copy.deepcopy(conv).double().to(memory_format=layout)
        x = torch.randn(shape, dtype=torch.float64).to(memory_format=layout).requires_grad_()
        expected = nn.Conv2d._conv_forward(conv, x, conv.weight, conv.bias)
        upstream = torch.randn_like(expected)
        found, inputs = conv(x), (x, *conv.parameters())
        own += "SmallMapDepthwise" in type(found.grad_fn).__name__
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(output, inputs, upstream) for output in (found, expected)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)
        if conv.kernel_size[0] < 2 * shape[2]:  # else weights were cut off
            assert gradients[0][1].stride() == conv.weight.stride()
    assert own >= 10


@pytest.mark.parametrize(("size", "kernel"), [((2, 2), (3, 3)), ((1, 3), (3, 1)), ((4, 3), (5, 5)), ((5, 6), (5, 7))])
def test_weight_gradient_by_differences(size: tuple[int, int], kernel: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(3, 1, *kernel, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(SmallMapDepthwise.apply, [part.requires_grad_() for part in (x, weight, bias)])


def test_weight_gradient_in_fp32_is_as_exact_as_torchs() -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(2, 256, 24, 8, 8).to(torch.float32).unbind()
    conv = ScalableConv2d(24, 24, 7, padding=3, groups=24)
    exact = copy.deepcopy(conv).double()
    (truth,) = torch.autograd.grad(
        nn.Conv2d._conv_forward(exact, x.double(), exact.weight, None), exact.weight, upstream.double()
    )
    errors = []
    for output in (conv(x), nn.Conv2d._conv_forward(conv, x, conv.weight, conv.bias)):
        (gradient,) = torch.autograd.grad(output, conv.weight, upstream)
        errors.append(float((gradient - truth).abs().max()))
    assert errors[0] <= 2 * errors[1] < 0.01


def test_own_gradients_are_for_a_cpu_in_full_precision() -> None:
    """On other devices, in halves and compiled, the operators are torch's own."""
    conv = ScalableConv2d(8, 8, 7, padding=3, groups=8)
    x = torch.randn(2, 8, 8, 8)
    assert "SmallMapDepthwise" in type(conv(x).grad_fn).__name__
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "Convolution" in type(conv(x).grad_fn).__name__
    assert "Convolution" in type(copy.deepcopy(conv).to("meta")(x.to("meta")).grad_fn).__name__
    compiled = torch.compile(copy.deepcopy(conv), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), conv(x))
    compiled(x).sum().backward()
