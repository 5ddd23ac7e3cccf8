"""Whole experiments: what they ask for, and that the cost stated in each file is what is counted."""

import json
import re
from pathlib import Path

import pytest

from roadmap.config import config_dir
from roadmap.config.build import measured_cost
from roadmap.steps.path import compose_path

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "steps.json").read_text())
IMAGENET = 1_281_167

# regime, seeds, epochs of the first step and of the others, image size, training images
EXPERIMENTS = {
    "imagenet_tiny": ("tiny", [0, 1, 2], (90, 300), 224, IMAGENET),
    "imagenet_base": ("base", [0], (90, 300), 224, IMAGENET),
    "cifar100": ("tiny", [0, 1, 2], (100, 100), 64, 50_000),
    "imagenet100_64": ("tiny", [0, 1, 2], (40, 40), 64, 128_000),
}


def test_every_experiment_is_tested() -> None:
    assert {file.stem for file in (config_dir() / "experiment").glob("*.yaml")} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_the_whole_path_at_the_stated_cost(name: str) -> None:
    regime, seeds, epochs, image_size, images = EXPERIMENTS[name]
    steps = compose_path([f"experiment={name}", "data.root=x"])
    runs = [step.composed.experiment() for step in steps]
    assert [step.name for step in steps] == list(GOLDEN[regime])
    assert all(run.variant == step.name for run, step in zip(runs, steps, strict=True))
    assert all(step.composed.seeds == seeds for step in steps)
    assert [run.epochs for run in runs] == [epochs[0], *[epochs[1]] * 16]
    assert {(run.regime, run.image_size) for run in runs} == {(regime, image_size)}
    # at 224 pixels the golden costs are these networks'
    golden = [step["macs"] / 1e9 for step in GOLDEN[regime].values()]
    gmacs = golden if image_size == 224 else [measured_cost(step.composed).gmacs for step in steps]
    total = 3 * len(seeds) * images * sum(each * run.epochs for each, run in zip(gmacs, runs, strict=True))
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    (stated,) = re.findall(r"Cost: (\S+) GMACs", text)
    assert stated == f"{total:.{len(stated) - 6}e}"
    assert "Not run on any hardware yet" in text
    # two operations a MAC; the days or hours at the throughput that the file assumes
    seconds = 2e9 * total / (40e12 if images == IMAGENET else 15e12)
    assert (f"{seconds / 86400:.0f} days" if images == IMAGENET else f"{seconds / 3600:.0f} hours") in text


def test_the_command_line_wins_over_an_experiment() -> None:
    first, *_ = compose_path(["experiment=cifar100", "epochs=2", "regime=nano", "seeds=[5]"])
    assert first.composed.experiment().epochs == 2
    assert (first.composed.regime.name, first.composed.seeds) == ("nano", [5])
