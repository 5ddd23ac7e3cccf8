"""Costs: exact, in agreement with the paper, and never twice or half of what is meant."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from roadmap.config.build import build, measured_cost, network_cost
from roadmap.config.compose import compose
from roadmap.networks.flops import cost
from roadmap.paper.published import EXCEPTIONS, published_steps
from roadmap.steps.path import compose_path

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "steps.json").read_text())


@pytest.mark.parametrize("regime", ["tiny", "base", "nano", "nano_base"])
def test_golden_costs_of_every_step(regime: str) -> None:
    for step in compose_path([f"regime={regime}"]):
        counted = measured_cost(step.composed)
        golden = GOLDEN[regime][step.name]
        assert (counted.macs, counted.params, counted.activations) == tuple(golden.values()), step.name
        assert network_cost(step.composed) == counted, step.name


def test_32_of_the_34_published_cells_match_to_the_printed_digit() -> None:
    matched, differing = 0, []
    for regime in ("tiny", "base"):
        published = published_steps(regime)
        for name, golden in GOLDEN[regime].items():
            if f"{golden['macs'] / 1e9:.2f}" == published[name].gflops:
                matched += 1
            else:
                differing.append((regime, name))
    assert matched == 32
    assert differing == list(EXCEPTIONS)


def test_one_convolution_and_one_linear_layer_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    counted = cost(network, image_size=16)
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
    counted = measured_cost(compose(overrides))
    weights = torchvision.models.get_model_weights(name).DEFAULT.meta
    assert counted.params == weights["num_params"]
    assert counted.gmacs == pytest.approx(weights["_ops"], abs=0.002)


def test_counting_changes_nothing_and_costs_no_memory() -> None:
    network = build("regime=nano", "step=separate_downsampling").train()
    network.norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, second = cost(network, 32), cost(network, 32)
    assert first == second
    assert network.training
    assert not network.norm.training
    for name, tensor in network.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.long
def test_all_34_networks_are_counted_in_seconds() -> None:
    """In a fresh process, after import; the bar is 5 seconds on an idle machine, tests may share theirs."""
    code = (
        "import time, roadmap.config.build as b, roadmap.steps.path as p\n"
        "start = time.perf_counter()\n"
        "steps = [s for r in ('tiny', 'base') for s in p.compose_path([f'regime={r}'])]\n"
        "n = sum(b.measured_cost(s.composed).macs > 0 for s in steps)\n"
        "print(n, time.perf_counter() - start)"
    )
    count, seconds = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(count) == 34
    assert float(seconds) < 15
