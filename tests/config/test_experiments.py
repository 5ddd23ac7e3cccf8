"""Whole experiments: what they ask for, and that the cost stated in each file is what is counted."""

import re
from functools import cache

import pytest

from roadmap.config import config_dir
from roadmap.config.compose import compose
from roadmap.networks.flops import count_flops
from roadmap.steps.path import Step, compose_path

IMAGENET = 1_281_167
# regime, seeds, epochs of the first step and of the others, image size, training images
EXPERIMENTS = {
    "imagenet_tiny": ("tiny", [0, 1, 2], (90, 300), 224, IMAGENET),
    "imagenet_base": ("base", [0], (90, 300), 224, IMAGENET),
    "cifar100": ("tiny", [0, 1, 2], (100, 100), 64, 50_000),
    "imagenet100_64": ("tiny", [0, 1, 2], (40, 40), 64, 128_000),
}


@cache
def path(regime: str) -> list[Step]:
    return compose_path([f"regime={regime}"])


def test_every_experiment_is_tested() -> None:
    assert {file.stem for file in (config_dir() / "experiment").glob("*.yaml")} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_the_whole_path_at_the_stated_cost(name: str) -> None:
    regime, seeds, epochs, image_size, images = EXPERIMENTS[name]
    for step, expected in zip(("resnet50", "gelu"), epochs, strict=True):
        config = compose([f"experiment={name}", "data.root=x", f"step={step}"])
        run = config.experiment()
        assert (run.variant, run.regime, config.seeds) == (step, regime, seeds)
        assert (run.epochs, run.image_size) == (expected, image_size)
    gmacs = [count_flops(step.composed.design, image_size, 1000, False).gmacs for step in path(regime)]
    total = 3 * len(seeds) * images * (epochs[0] * gmacs[0] + epochs[1] * sum(gmacs[1:]))
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    (stated,) = re.findall(r"Cost: (\S+) GMACs", text)
    assert stated == f"{total:.{len(stated) - 6}e}"
    # two operations a MAC; the days or hours at the throughput that the file assumes
    seconds = 2e9 * total / (40e12 if images == IMAGENET else 15e12)
    assert (f"{seconds / 86400:.0f} days" if images == IMAGENET else f"{seconds / 3600:.0f} hours") in text
