"""The network: every combination of the axes, every step of every regime."""

import itertools
import random
from typing import Any

import pytest
import torch
from torch import nn

from roadmap.config.build import build, build_network
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops
from roadmap.networks.network import Network
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe
from tests.records import steps_of

OPTIONS = {
    "depths": [(1, 1, 2, 1), (1, 1, 3, 1)],
    "width": [16, 24],
    "stem": ["resnet", "patchify"],
    "conv": ["dense", "depthwise"],
    "bottleneck": ["standard", "inverted"],
    "depthwise_position": ["middle", "first"],
    "kernel": [3, 7],
    "activation": ["relu", "gelu"],
    "activations": ["every_layer", "one_per_block"],
    "norms": ["every_layer", "one_per_block"],
    "norm": ["batch", "layer"],
    "downsampling": ["in_block", "separate"],
}
PLAIN = NetworkRecipe(weight_init="trunc_normal", layer_scale=None, stochastic_depth=0.0, head_init_scale=1.0)


def try_design(**chosen: object) -> Network:
    """Build a design at nano size, run it forward and backward, and count it."""
    network = Network(Design(**chosen), PLAIN, num_classes=10)
    logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert count_flops(network.design, 32, 10, layer_scale=False) == cost(network, image_size=32)
    return network


def test_every_combination_is_counted_or_refused_by_its_rule_and_a_sample_runs() -> None:
    """4,096 designs, of which 3,072 are valid; 32 are built."""
    valid = []
    for combination in itertools.product(*OPTIONS.values()):
        chosen = dict(zip(OPTIONS, combination, strict=True))
        if chosen["depthwise_position"] == "first" and chosen["conv"] == "dense":
            with pytest.raises(RequestError, match=r"depthwise_position=first .* conv=dense: .* choose conv=depthwise"):
                Design(**chosen)
        else:
            valid.append(chosen)
            assert count_flops(Design(**chosen), 32, 10, layer_scale=False).macs > 0
    assert len(valid) == 3072
    for chosen in random.Random(0).sample(valid, 32):
        try_design(**chosen)


@pytest.mark.parametrize("regime", ["nano", "nano_base", "cifar", pytest.param("tiny", marks=pytest.mark.long)])
def test_every_parameter_gets_a_gradient_at_every_step(regime: str) -> None:
    """With real numbers: a gradient that exists and is not zero everywhere."""
    torch.manual_seed(0)
    size = 32 if regime.startswith("nano") else 64
    images = torch.randn(2, 3, size, size)
    for step in steps_of(regime):
        # layer scale starts at 1e-6 and a dropped path has no gradient; both are the recipe's, not the design's
        network = Network(step.composed.design, PLAIN, num_classes=10)
        network(images).logsumexp(1).sum().backward()
        without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
        assert not without, (step.name, without)


def test_layer_scale_gets_a_gradient_too() -> None:
    network = build("step=separate_downsampling")
    network(torch.randn(2, 3, 64, 64)).logsumexp(1).sum().backward()
    scales = [parameter for name, parameter in network.named_parameters() if "scale" in name]
    assert len(scales) == sum(network.design.depths)
    assert all(scale.grad is not None and scale.grad.abs().max() > 0 for scale in scales)


@pytest.mark.parametrize("step", ["separate_downsampling", "inverted_bottleneck"])
def test_layer_scale_in_the_weights_is_layer_scale_after_them(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a branch that ends with a convolution, and of one that ends with BN: outputs and all gradients."""
    monkeypatch.setattr("roadmap.networks.network.FOLDED_OUTPUTS", 0)
    torch.manual_seed(0)
    block = build(f"step={step}").stages[2][-1]
    with torch.no_grad():
        block.scale.weight.uniform_(-1, 1)
    x = torch.randn(32, block.scale.weight.numel(), 4, 4, requires_grad=True)
    folded, plain = block.scaled(x), block.scale(block.branch(x))
    torch.testing.assert_close(folded, plain)
    wanted = [x, *(p for name, p in block.named_parameters() if not name.startswith("shortcut"))]
    gradients = [torch.autograd.grad(y.square().sum(), wanted) for y in (folded, plain)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_what_layer_scale_starts_at_is_not_lost_in_halves() -> None:
    """A millionth of a weight is nothing in fp16, and next to the stream it is nothing in bf16."""
    torch.manual_seed(0)
    block = build("step=separate_downsampling").stages[1][-1].train()
    assert block.scale.weight[0] == torch.tensor(1e-6)
    x = torch.randn(32, block.scale.weight.numel(), 4, 4)
    exact = block(x) - x
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype):
            y = block(x)
        assert y.dtype == torch.float32
        # as far as x + 1e-7 is exact in fp32
        torch.testing.assert_close(y - x, exact, rtol=0.1, atol=2e-7)
        assert (y != x).float().mean() > 0.2


def test_a_convolution_has_a_bias_unless_batch_norm_follows() -> None:
    """Checked on the graph of modules in the order they ran, for every step."""
    for step in steps_of("nano"):
        with torch.device("meta"):
            network = build_network(step.composed)
        for sequence in (module for module in network.modules() if isinstance(module, nn.Sequential)):
            for module, following in itertools.pairwise([*sequence, None]):
                if isinstance(module, nn.Conv2d):
                    assert (module.bias is None) == isinstance(following, nn.BatchNorm2d), step.name


def test_each_step_changes_the_modules_that_its_name_says() -> None:
    """Counts of norms and activations along the path, reckoned by hand for nano (blocks 1, 1, 3, 1)."""
    counts = {}
    for step in steps_of("nano"):
        with torch.device("meta"):
            modules = list(build_network(step.composed).modules())
        norms = sum(isinstance(m, nn.BatchNorm2d | nn.LayerNorm) for m in modules)
        activations = sum(isinstance(m, nn.ReLU | nn.GELU) for m in modules)
        counts[step.name] = (norms, activations)
    # stem 1, blocks 3 each, four projections; activations: stem 1, blocks 3 each
    assert counts["resnet50"] == (1 + 3 * 5 + 4, 1 + 3 * 5)
    assert counts["stage_ratio"] == (1 + 3 * 6 + 4, 1 + 3 * 6)
    # inverted: the first stage needs no projection
    assert counts["inverted_bottleneck"] == (1 + 3 * 6 + 3, 1 + 3 * 6)
    assert counts["fewer_activations"] == (1 + 3 * 6 + 3, 6)
    assert counts["fewer_norms"] == (1 + 6 + 3, 6)
    # after the stem, before three downsampling layers, after pooling
    assert counts["separate_downsampling"] == (1 + 6 + 3 + 1, 6)


def test_stochastic_depth_rises_linearly_and_is_off_in_evaluation() -> None:
    design = compose(["regime=nano", "step=separate_downsampling"]).design
    network = Network(
        design,
        NetworkRecipe(weight_init="trunc_normal", layer_scale=None, stochastic_depth=0.5, head_init_scale=1.0),
        num_classes=10,
    )
    rates = [getattr(block.drop, "p", 0.0) for stage in network.stages for block in stage]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network.train()(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


@pytest.mark.parametrize("number", [0, 1, 10, 21, 31])
def test_isotropic_goes_with_every_axis(number: int) -> None:
    """All options but the stem's, in five combinations."""
    chosen = {name: options[number >> place % 5 & 1] for place, (name, options) in enumerate(OPTIONS.items())}
    network = try_design(**chosen | {"stem": "patchify", "conv": "depthwise", "hierarchy": "isotropic"})
    assert [len(stage) for stage in network.stages] == [sum(network.design.depths)]


def test_isotropic_wants_patches_and_older_records_are_pyramids() -> None:
    with pytest.raises(RequestError, match=r"hierarchy=isotropic .* stem=resnet: .* choose stem=patchify"):
        build("hierarchy=isotropic")
    pyramid = compose([]).design
    assert "hierarchy" not in pyramid.to_dict()
    assert Design.from_mapping(pyramid.to_dict()) == pyramid
    isotropic = compose(["hierarchy=isotropic", "stem=patchify"])
    assert isotropic.variant == "resnet50 stem=patchify hierarchy=isotropic"
    assert Design.from_mapping(isotropic.design.to_dict()) == isotropic.design


@pytest.mark.parametrize("stem", ["resnet", "patchify"])
@pytest.mark.parametrize("patch", [4, 2, 1])
def test_the_stem_divides_by_its_patch_with_and_without_the_other_axes(stem: str, patch: int) -> None:
    for number in (0, 1):
        chosen = {name: options[number] for name, options in OPTIONS.items()}
        network = try_design(**chosen | {"stem": stem, "conv": "depthwise", "patch": patch})
        assert network.stem(torch.randn(2, 3, 32, 32)).shape[2:] == (32 // patch, 32 // patch)


def test_stems_of_small_images_by_hand() -> None:
    """A 3×3 convolution, with a max-pool at stride 2 (arXiv:1512.03385, section 4.2, has none at stride 1)."""

    def stem(*overrides: str) -> list[tuple[str, Any, Any]]:
        layers = build("regime=cifar", *overrides).stem.children()
        return [(type(row).__name__, row.kernel_size, row.stride) for row in layers if hasattr(row, "stride")]

    assert stem("patch=p2") == [("ScalableConv2d", (3, 3), (1, 1)), ("MaxPool2d", 3, 2)]
    assert stem("patch=p1") == [("ScalableConv2d", (3, 3), (1, 1))]
    assert stem("stem=patchify") == [("ScalableConv2d", (2, 2), (2, 2))]


def test_patch_of_an_isotropic_network_is_refused_and_the_regime_sets_a_default() -> None:
    with pytest.raises(RequestError, match=r"hierarchy=isotropic .* patch=p2: .* choose patch=p4"):
        compose(["regime=cifar", "hierarchy=isotropic", "stem=patchify"])
    assert compose(["regime=cifar"]).design.patch == 2
    assert compose(["patch=p1", "regime=cifar"]).design.patch == 1
    assert compose(["regime=cifar", "patch=p4", "step=gelu"]).design == compose(["regime=nano", "step=gelu"]).design
    assert "patch" not in compose(["regime=nano"]).design.to_dict()
    assert compose(["regime=nano", "patch=p2"]).variant == "resnet50 patch=p2"
    assert compose(["regime=cifar"]).variant == "resnet50"


def test_initial_weights_follow_the_recipe() -> None:
    torch.manual_seed(0)
    enhanced = build("regime=tiny", "step=separate_downsampling")
    assert enhanced.stages[3][0].branch.pw_in.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert enhanced.stages[3][0].branch.pw_in.bias.abs().max() == 0
    original = build("regime=tiny", "step=resnet50")
    # Kaiming, fan-out: sqrt(2 / (512 * 9)) for the last stage's 3x3
    spatial = original.stages[3][1].branch.spatial.weight
    assert spatial.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
