"""The network: every combination of the axes, every step of every regime."""

import itertools
import random
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from roadmap.config.build import build, build_network, network_cost
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops
from roadmap.networks.network import Network
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe
from roadmap.steps.path import compose_path

REGIMES = ("nano", "nano_base", "tiny", "base")
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


COMBINATIONS = list(itertools.product(*OPTIONS.values()))


def try_combinations(combinations: list[tuple]) -> tuple[int, int]:
    """Build each design at nano size, run it forward and backward, count it; how many were built and refused."""
    images = torch.randn(2, 3, 32, 32)
    built = refused = 0
    for combination in combinations:
        chosen = dict(zip(OPTIONS, combination, strict=True))
        if chosen["depthwise_position"] == "first" and chosen["conv"] == "dense":
            with pytest.raises(RequestError, match="depthwise_position=first does not go with conv=dense"):
                Design(**chosen)
            refused += 1
            continue
        network = Network(Design(**chosen), PLAIN, num_classes=10)
        logits = network(images)
        assert logits.shape == (2, 10)
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert count_flops(network.design, 32, 10, layer_scale=False) == cost(network, image_size=32)
        built += 1
    return built, refused


def test_one_in_64_of_all_combinations() -> None:
    sample = random.Random(0).sample(COMBINATIONS, 64)
    assert sum(try_combinations(sample)) == 64


@pytest.mark.long
@pytest.mark.parametrize("part", range(16))
def test_every_combination_builds_runs_and_counts_or_is_refused_by_its_rule(part: int) -> None:
    """4,096 designs, 256 in each of 16 tests; what stands fourth from the front, conv, is the same in each."""
    combinations = COMBINATIONS[256 * part : 256 * (part + 1)]
    assert try_combinations(combinations) == ((128, 128) if combinations[0][3] == "dense" else (256, 0))


def test_the_refusal_names_both_options_and_the_way_out() -> None:
    with pytest.raises(RequestError, match=r"depthwise_position=first .* conv=dense: .* choose conv=depthwise"):
        build("regime=nano", "depthwise_position=first")


@pytest.mark.parametrize(
    "regime", [pytest.param(name, marks=[] if "nano" in name else [pytest.mark.long]) for name in REGIMES]
)
def test_every_parameter_gets_a_gradient_at_every_step(regime: str) -> None:
    """With real numbers: a gradient that exists and is not zero everywhere."""
    torch.manual_seed(0)
    size = 32 if regime.startswith("nano") else 64
    images = torch.randn(2, 3, size, size)
    for step in compose_path([f"regime={regime}"]):
        # layer scale starts at 1e-6 and a dropped path has no gradient; both are the recipe's, not the design's
        network = Network(step.composed.design, PLAIN, num_classes=10)
        network(images).logsumexp(1).sum().backward()
        without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
        assert not without, (step.name, without)


@pytest.mark.parametrize("regime", ["nano", "tiny"])
def test_layer_scale_gets_a_gradient_too(regime: str) -> None:
    network = build(f"regime={regime}", "step=separate_downsampling", num_classes=10)
    network(torch.randn(2, 3, 64, 64)).logsumexp(1).sum().backward()
    scales = [parameter for name, parameter in network.named_parameters() if "scale" in name]
    assert len(scales) == sum(network.design.depths)
    assert all(scale.grad is not None and scale.grad.abs().max() > 0 for scale in scales)


@pytest.mark.parametrize("step", ["separate_downsampling", "inverted_bottleneck"])
def test_layer_scale_in_the_weights_is_layer_scale_after_them(step: str) -> None:
    """Of a branch that ends with a convolution, and of one that ends with BN: outputs and all gradients."""
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
    for step in compose_path(["regime=nano"]):
        with torch.device("meta"):
            network = build_network(step.composed)
        for sequence in (module for module in network.modules() if isinstance(module, nn.Sequential)):
            for module, following in itertools.pairwise([*sequence, None]):
                if isinstance(module, nn.Conv2d):
                    assert (module.bias is None) == isinstance(following, nn.BatchNorm2d), step.name


def test_each_step_changes_the_modules_that_its_name_says() -> None:
    """Counts of norms and activations along the path, reckoned by hand for nano (blocks 1, 1, 3, 1)."""
    counts = {}
    for step in compose_path(["regime=nano"]):
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


@pytest.mark.parametrize("regime", ["nano", "tiny"])
def test_channels_last_gives_the_same_logits(regime: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for step in ("resnet50", "inverted_bottleneck", "separate_downsampling"):
        network = build(f"regime={regime}", f"step={step}", num_classes=10).eval()
        before = network(images)
        after = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    ("size", "params_m", "gmacs", "theirs"),
    [
        ("t", 28.59, 4.46, torchvision.models.convnext_tiny),
        ("s", 50.22, 8.68, torchvision.models.convnext_small),
        ("b", 88.59, 15.35, torchvision.models.convnext_base),
        ("l", 197.77, 34.36, torchvision.models.convnext_large),
        ("xl", 350.20, 60.92, None),
    ],
)
def test_the_published_sizes(size: str, params_m: float, gmacs: float, theirs: Callable | None) -> None:
    """Parameters and FLOPs of Table 1 (29, 50, 89, 198, 350 million; 4.5, 8.7, 15.4, 34.4, 60.9 G)."""
    with torch.device("meta"):
        network = build("step=separate_downsampling", f"size={size}")
        other = theirs() if theirs else None
    counted = cost(network)
    assert (counted.params_m, counted.gmacs) == pytest.approx((params_m, gmacs), abs=0.01)
    assert other is None or counted.params == sum(p.numel() for p in other.parameters())


@pytest.mark.parametrize(("size", "params_m", "gmacs"), [("s", 22.3, 4.3), ("b", 87.1, 16.9), ("l", 305.9, 59.7)])
def test_the_published_isotropic_networks(size: str, params_m: float, gmacs: float) -> None:
    """Table 2 and its text; layer scale, as the authors' recipe has it, in L alone."""
    composed = compose(["step=separate_downsampling", f"size=iso_{size}", "recipe=isotropic"])
    with torch.device("meta"):
        network = build_network(composed)
    counted = cost(network)
    assert (round(counted.params_m, 1), round(counted.gmacs, 1)) == (params_m, gmacs)
    assert network_cost(composed) == counted
    assert any(name.endswith("scale.weight") for name, _ in network.named_parameters()) == (size == "l")


@pytest.mark.parametrize("number", range(32))
def test_isotropic_goes_with_every_axis(number: int) -> None:
    """All options but the stem's, two of each axis' a time."""
    chosen = {name: options[number >> place & 1] for place, (name, options) in enumerate(list(OPTIONS.items())[4:9])}
    rest = {name: options[number % 2] for name, options in OPTIONS.items() if name not in chosen}
    design = Design(**rest | chosen | {"stem": "patchify", "conv": "depthwise", "hierarchy": "isotropic"})
    network = Network(design, PLAIN, num_classes=10)
    logits = network(torch.randn(2, 3, 32, 32))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert count_flops(design, 32, 10, layer_scale=False) == cost(network, image_size=32)
    assert len(network.stages) == 1
    assert len(network.stages[0]) == sum(design.depths)


def test_isotropic_wants_patches_and_older_records_are_pyramids() -> None:
    with pytest.raises(RequestError, match=r"hierarchy=isotropic .* stem=resnet: .* choose stem=patchify"):
        build("hierarchy=isotropic")
    pyramid = compose([]).design
    assert "hierarchy" not in pyramid.to_dict()
    assert Design.from_mapping(pyramid.to_dict()) == pyramid
    isotropic = compose(["hierarchy=isotropic", "stem=patchify"])
    assert isotropic.variant == "resnet50 stem=patchify hierarchy=isotropic"
    assert Design.from_mapping(isotropic.design.to_dict()) == isotropic.design


def test_initial_weights_follow_the_recipe() -> None:
    torch.manual_seed(0)
    enhanced = build("regime=tiny", "step=separate_downsampling")
    assert enhanced.stages[3][0].branch.pw_in.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert enhanced.stages[3][0].branch.pw_in.bias.abs().max() == 0
    original = build("regime=tiny", "step=resnet50")
    # Kaiming, fan-out: sqrt(2 / (512 * 9)) for the last stage's 3x3
    spatial = original.stages[3][1].branch.spatial.weight
    assert spatial.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
