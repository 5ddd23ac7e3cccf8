"""Counts of designs against torch's counter on the networks that are built of them; the steps' are in test_costs."""

import random
import time

import pytest
import torch

from roadmap.config.build import network_cost
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops
from roadmap.networks.network import Network
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe


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


def test_any_depths_widths_kernels_and_image_sizes_are_counted_as_torch_counts_them() -> None:
    draw = random.Random(0)
    for _ in range(60):
        design, image_size, classes = random_design(draw), draw.randint(32, 240), draw.randint(1, 30)
        scale = draw.choice([None, 1e-6])
        with torch.device("meta"):
            network = Network(
                design,
                NetworkRecipe(weight_init="trunc_normal", layer_scale=scale, stochastic_depth=0.0, head_init_scale=1.0),
                classes,
            )
        assert count_flops(design, image_size, classes, scale is not None) == cost(network, image_size), (
            design,
            image_size,
        )


def test_an_image_too_small_is_refused_in_the_words_of_a_run() -> None:
    with pytest.raises(RequestError, match=r"image_size must be at least 32 \(got 31\)"):
        network_cost(compose(["image_size=31"]))


@pytest.mark.long
def test_a_thousand_designs_are_counted_in_a_second() -> None:
    """The bar is 5,000; processor time."""
    draw = random.Random(1)
    designs = [random_design(draw) for _ in range(1000)]
    start = time.process_time()
    for design in designs:
        count_flops(design, 32, 10, layer_scale=True)
    assert time.process_time() - start < 1
