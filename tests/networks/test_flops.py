"""Costs: exact, counted twice, in agreement with the paper and torchvision; and designs at equal cost."""

import json
import random
import time
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.comparison.groups import OwnPath
from roadmap.config.build import build, measured_cost, network_cost
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops, matched, scale
from roadmap.networks.network import Network
from roadmap.networks.rows import Cost
from roadmap.paper.published import EXCEPTIONS, published_steps
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe
from roadmap.steps.path import Step, compose_path
from roadmap.sweeps.studies import study_of
from roadmap.training.run_command import unique_runs
from tests.records import steps_of

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "steps.json").read_text())
WANTED = ["match_gmacs=0.003", "match_by=depth"]
ROWS = "step=stage_ratio, stem=patchify, conv=depthwise, bottleneck=inverted, kernel=k7, downsampling=separate"


@pytest.mark.parametrize("regime", ["tiny", "base", "nano", "nano_base", "cifar"])
def test_golden_costs_of_every_step(regime: str) -> None:
    for step in steps_of(regime):
        counts = [network_cost(step.composed)]
        if step.name in ("resnet50", "fewer_norms"):
            counts.append(measured_cost(step.composed))
        for count in counts:
            assert count._asdict() == GOLDEN[regime][step.name], step.name


def test_32_of_the_34_published_cells_match_to_the_printed_digit() -> None:
    cells = {
        (regime, name): cell.gflops for regime in ("tiny", "base") for name, cell in published_steps(regime).items()
    }
    ours = {
        (regime, name): golden["macs"] / 1e9 for regime in ("tiny", "base") for name, golden in GOLDEN[regime].items()
    }
    assert len(ours) == 34
    assert [step for step, gmacs in ours.items() if f"{gmacs:.2f}" != cells[step]] == list(EXCEPTIONS)


def test_one_convolution_and_one_linear_layer_by_hand() -> None:
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    counted = cost(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), image_size=16)
    assert counted.macs == 8 * 8 * 8 * 3 * 9 + 8 * 5
    assert counted.params == 8 * 3 * 9 + 8 + 8 * 5 + 5
    assert counted.activations == 8 * 8 * 8 + 5


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet50", ["regime=tiny", "step=resnet50"]),
        ("convnext_tiny", ["regime=tiny", "step=separate_downsampling"]),
        ("convnext_base", ["regime=base", "step=separate_downsampling"]),
    ],
)
def test_both_ends_have_torchvisions_published_costs(name: str, overrides: list[str]) -> None:
    """torchvision publishes GFLOPs (counted as multiply-accumulates) and exact parameters with its weights."""
    counted = network_cost(compose(overrides))
    weights = torchvision.models.get_model_weights(name).DEFAULT.meta
    assert counted.params == weights["num_params"]
    assert counted.gmacs == pytest.approx(weights["_ops"], abs=0.002)


def test_counting_changes_nothing() -> None:
    network = build("regime=nano", "step=separate_downsampling").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert cost(network, 32) == cost(network, 32)
    assert str(Cost(4_456_000_000, 28_589_128, 13_400_000)) == "4.456 GMACs, 28.59 M parameters, 13.4 M activations"
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def random_design(draw: random.Random) -> Design:
    conv = draw.choice(["dense", "depthwise"])
    return Design(
        depths=tuple(draw.randint(1, 5) for _ in range(4)),
        width=draw.randint(1, 70),
        stem=draw.choice(["resnet", "patchify"]),
        conv=conv,
        bottleneck=draw.choice(["standard", "inverted"]),
        depthwise_position=draw.choice(["middle", "first"]) if conv == "depthwise" else "middle",
        kernel=draw.choice([1, 3, 5, 7, 9, 11]),
        activation=draw.choice(["relu", "gelu"]),
        activations=draw.choice(["every_layer", "one_per_block"]),
        norms=draw.choice(["every_layer", "one_per_block"]),
        norm=draw.choice(["batch", "layer"]),
        downsampling=draw.choice(["in_block", "separate"]),
    )


def test_random_designs_are_counted_as_torch_counts_them() -> None:
    draw = random.Random(0)
    for _ in range(30):
        design, image_size, classes = random_design(draw), draw.randint(32, 240), draw.randint(1, 30)
        scale = draw.choice([None, 1e-6])
        recipe = NetworkRecipe(weight_init="kaiming", layer_scale=scale, stochastic_depth=0.0, head_init_scale=1.0)
        with torch.device("meta"):
            network = Network(design, recipe, classes)
        assert count_flops(design, image_size, classes, scale is not None) == cost(network, image_size), design


@pytest.mark.long
def test_a_thousand_designs_are_counted_in_a_second() -> None:
    """The bar is 5,000; processor time."""
    draw = random.Random(1)
    designs = [random_design(draw) for _ in range(1000)]
    start = time.process_time()
    for design in designs:
        count_flops(design, 32, 10, layer_scale=True)
    assert time.process_time() - start < 1


def path_of(rows: str, folder: Path) -> list[str]:
    """A folder of configs with a path of its own; shorter than the paper's, since each row takes its time."""
    (folder / "path").mkdir()
    (folder / "path" / "short.yaml").write_text(f"name: short\nsteps: [{rows}]\n")
    return [str(folder)]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return compose_path(["path=short", *WANTED], path_of(ROWS, tmp_path_factory.mktemp("conf")))


@pytest.mark.parametrize("by", ["width", "depth"])
def test_no_other_width_or_depth_is_nearer(by: str, steps: list[Step]) -> None:
    draw = random.Random(0)
    for step in steps:
        design = step.composed.asked
        gmacs = draw.uniform(0.003, 0.005)
        costs = {value: count_flops(scale(design, by, value), 32, 10, False).gmacs for value in range(1, 60)}
        nearest = min(costs, key=lambda value: abs(costs[value] - gmacs))
        assert matched(design, gmacs, by, 32, 10) == scale(design, by, nearest), step.name
        assert matched(design, count_flops(design, 64, 10, False).gmacs, by, 64, 10) == design, step.name


def test_the_chosen_design_is_in_values_network_and_words() -> None:
    composed = compose(["regime=tiny", "step=gelu", "match_gmacs=0.4", "image_size=64"])
    assert composed.design.width == composed.logged_values["design"]["width"] == 104
    assert composed.asked.width == 96
    assert composed.variant == "gelu match_gmacs=0.4"
    assert composed.choice == "gelu match_gmacs=0.4: width 104, 0.3971 GMACs"
    assert measured_cost(composed).gmacs == pytest.approx(0.4, rel=0.02)
    deeper = compose(["regime=tiny", "step=gelu", "kernel=k3", "match_gmacs=4.5", "match_by=depth"])
    assert deeper.choice == "gelu kernel=k3 match_gmacs=4.5 match_by=depth: 11 blocks in the third stage, 4.529 GMACs"
    found = compose(["step=gelu", "match_gmacs=0.00225"])
    assert found.experiment().run_id == compose(["step=gelu", "design.width=27"]).experiment().run_id


def test_a_change_of_width_alone_is_no_change_at_equal_cost(tmp_path: Path) -> None:
    rows = path_of("step=depthwise_conv, step=increase_width, step=inverted_bottleneck", tmp_path)
    steps = compose_path(["path=short", "match_gmacs=0.00225"], rows)
    before, widened, turned = (step.composed for step in steps)
    assert widened.design == before.design
    assert [step.changes for step in steps] == [{}, {}, {"bottleneck": "inverted"}]
    # the two are one run, known by the first's name, and the third's parent
    assert [request.variant for request in unique_runs(steps)[:2]] == [before.variant, turned.variant]
    assert OwnPath.of(steps).parent(turned.variant, []) == before.variant
    assert OwnPath.of(steps).parent(before.variant, []) is None


def test_subsets_of_changes_are_matched_as_hydra_composes_them(steps: list[Step]) -> None:
    point = ChangeSubsets.of(steps).point(0b10110)
    assert abs(network_cost(point).gmacs - 0.003) < 0.0003
    own = [word for word in point.overrides if word != "path=short"]
    assert point.design == compose(own).design
    assert point.asked == compose([word for word in own if word not in WANTED]).design


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["match_gmacs=-1"], "match_gmacs must be above 0 (got -1)"),
        (["match_by=height"], "unknown match_by 'height' (choose depth or width)"),
        (["match_gmacs=1e-7"], "10 %: width 1 costs 4.576e-05 GMACs; choose another match_gmacs or match_by"),
        (["match_gmacs=7e-5"], "width 1 costs 4.576e-05 and width 2 costs 0.0001071 GMACs"),
        (["match_gmacs=0.001", "match_by=depth"], "depth 1 costs 0.002328 GMACs; choose another"),
        (["match_gmacs=1", "image_size=31"], "image_size must be at least 32 (got 31)"),
    ],
)
def test_invalid_requests_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        compose(overrides)
    assert message in str(raised.value)


def test_random_designs_of_a_space_are_matched_too() -> None:
    asked = compose(["study=random", "study.n=4"]).study
    base = ["step=separate_downsampling", "match_gmacs=0.00225"]
    for key in ("gmacs", "space.width"):
        with pytest.raises(RequestError, match=f"study.{key} does not go with match_gmacs.*; add study.{key}=null"):
            study_of(asked, base)
        asked = asked | {"gmacs": None}
    members = study_of(asked | {"space": asked["space"] | {"width": None}}, base).designs
    assert len({member.composed.design for member in members}) == 4
    assert all(abs(network_cost(member.composed).gmacs - 0.00225) < 0.000225 for member in members)
