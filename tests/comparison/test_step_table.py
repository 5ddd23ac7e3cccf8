"""The roadmap's table against values reckoned by hand."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

import roadmap
from roadmap.comparison.step_table import render, step_table, subtitle
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.steps.path import compose_path

STEPS = compose_path(["regime=tiny"])


def summary(step: str, seed: int, top1: float, *overrides: str) -> dict:
    """A finished run as execute writes it, of made-up accuracy."""
    composed = compose(
        ["regime=tiny", "data=imagenet", "data.root=/images", f"step={step}", f"seed={seed}", *overrides]
    )
    experiment = composed.experiment()
    return {
        "run_id": experiment.run_id,
        "status": "finished",
        "regime": "tiny",
        "step": step,
        "variant": experiment.variant,
        "design": experiment.design.to_dict(),
        "seed": seed,
        "data": "imagenet",
        "recipe": experiment.recipe.name,
        "epochs": experiment.epochs,
        "image_size": 224,
        "train_images": 1281167,
        "val_images": 50000,
        "gmacs": 4.0,
        "params_m": 25.0,
        "top1": top1,
        "ended": "2026-01-01",
        "definition": experiment.definition,
    }


def test_means_deltas_and_published_numbers() -> None:
    runs = [summary("kernel_7", seed, top1) for seed, top1 in enumerate((80.0, 81.0, 82.0))]
    runs += [summary("gelu", seed, top1) for seed, top1 in enumerate((81.0, 82.5))]
    runs += [summary("gelu", 7, 10.0) | {"status": "failed"}, summary("resnet50", 0, 76.0)]
    table = step_table(pd.DataFrame(runs), STEPS).set_index("step")
    assert (table.loc["kernel_7", "top1"], table.loc["kernel_7", "top1_std"], table.loc["kernel_7", "n"]) == (
        81.0,
        1.0,
        3,
    )
    assert table.loc["gelu", "top1"] == 81.75
    assert (table.loc["gelu", "delta"], table.loc["gelu", "delta_n"]) == (0.75, 2)
    assert table.loc["gelu", "top1_std"] == pytest.approx(1.5 / math.sqrt(2))
    assert table.loc["gelu", "paper_delta"] == pytest.approx(80.62 - 80.57)
    assert table.loc["resnet50", "n"] == 1
    assert math.isnan(table.loc["resnet50", "top1_std"])
    assert table.loc["resnet50", "paper_top1"] == 76.13
    assert table.loc["patchify_stem", "n"] == 0


def test_a_toggled_design_is_not_its_step() -> None:
    table = step_table(pd.DataFrame([summary("gelu", 0, 80.0), summary("gelu", 1, 10.0, "norm=layer")]), STEPS)
    assert table.set_index("step").loc["gelu", ["n", "top1"]].tolist() == [1, 80.0]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("epochs=5", "epochs"),
        ("image_size=192", "image_size"),
        ("recipe.optimizer.lr=1", "recipe"),
        ("data.root=/b", "data"),
    ],
)
def test_what_is_not_equal_is_not_compared(override: str, key: str) -> None:
    runs = pd.DataFrame([summary("gelu", 0, 80.0), summary("kernel_7", 0, 81.0, override)])
    with pytest.raises(RequestError, match=f"these runs differ in {key} "):
        step_table(runs, STEPS)


def test_pretrained_runs_are_not_compared_with_others(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"any")
    runs = [summary("gelu", 0, 80.0), summary("kernel_7", 0, 81.0, f"pretrained='{tmp_path}/weights.pt'")]
    for both in (runs, runs[::-1]):
        with pytest.raises(RequestError, match="these runs differ in pretrained "):
            step_table(pd.DataFrame(both), STEPS)


def test_two_recipes_may_differ_in_epochs_but_not_in_data() -> None:
    step_table(pd.DataFrame([summary("gelu", 0, 80.0), summary("resnet50", 0, 76.0)]), STEPS)
    with pytest.raises(RequestError, match="differ in data"):
        step_table(pd.DataFrame([summary("gelu", 0, 80.0), summary("resnet50", 0, 76.0, "data.root=/b")]), STEPS)


def test_the_text_says_what_was_run() -> None:
    runs = pd.DataFrame([summary("gelu", 0, 80.0), summary("gelu", 1, 81.0), summary("resnet50", 0, 76.0)])
    text = render(step_table(runs, STEPS), "tiny")
    assert "80.50 ± 0.71" in text
    assert "paper top-1" in text
    caption = subtitle(runs, STEPS)
    for part in ("imagenet", "1,281,167", "50,000", "224 pixels", "regime tiny", "90 and 300 epochs", "2 seeds (0, 1)"):
        assert part in caption
    assert "every step with" not in caption
    assert subtitle(runs, compose_path(["regime=tiny", "norm=layer"])).endswith("; every step with norm=layer")


def test_a_copy_of_a_run_counts_once(tmp_path: Path) -> None:
    for name, ended, top1 in (("old", "2026-01-01", 70.0), ("new", "2026-01-02", 71.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary("gelu", 0, top1) | {"ended": ended}))
    assert roadmap.load_runs([tmp_path, tmp_path / "old"])["top1"].tolist() == [71.0]
