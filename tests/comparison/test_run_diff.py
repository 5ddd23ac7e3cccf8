"""``roadmap diff``, and two runs on the same images against tables counted by hand, SciPy and a simulation."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from roadmap.__main__ import main
from roadmap.comparison.run_diff import compare_predictions
from roadmap.errors import RequestError
from roadmap.runs.evaluations import EvaluatedImages, Predictions, write_predictions
from tests.records import EXAMPLES, example

IMAGES = EvaluatedImages("digits", "ab12", 32, 1.0, ())
CELLS = ((True, True), (True, False), (False, True), (False, False))  # first right, second right


def test_diff_lists_only_differences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(example("gelu")), str(example("layer_norm", 1)), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    config = {entry["key"]: (entry["first"], entry["second"]) for entry in entries if entry["kind"] == "config"}
    assert config == {
        "design.activations": ("every_layer", "one_per_block"),
        "design.norms": ("every_layer", "one_per_block"),
        "design.norm": ("batch", "layer"),
        "seed": (0, 1),
    }
    assert {entry["kind"] for entry in entries} == {"config", "environment", "result"}
    assert not {"run_id", "started", "ended", "path", "variant"} & {entry["key"] for entry in entries}
    assert main(["diff", str(example("gelu")), str(example("gelu"))]) == 0
    assert capsys.readouterr().out == "these runs do not differ\n"
    assert main(["diff", str(example("resnet50")), str(example("enhanced_recipe"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "resnet50 seed 0" in lines[0]
    assert any("recipe.optimizer.name" in line and line.split()[-2:] == ["sgd", "adamw"] for line in lines)


def test_diff_of_settings_versions_and_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (shutil.copytree(example("gelu"), tmp_path / name) for name in ("one", "other"))
    summary = json.loads((other / "summary.json").read_text())
    summary["versions"]["torch"], summary["git_commit"], summary["seed"] = "2.9.0", "abc", 0
    summary["threads"] = 2
    (other / "summary.json").write_text(json.dumps(summary))
    config = other / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("num_workers: 2", "num_workers: 9"))
    assert main(["diff", str(one), str(other), "--json"]) == 0
    found = {(entry["kind"], entry["key"]) for entry in json.loads(capsys.readouterr().out)}
    assert found == {
        *(("code", key) for key in ("git_commit", "versions.torch")),
        *(("environment", key) for key in ("num_workers", "threads")),
    }
    config.unlink()
    assert main(["diff", str(one), str(other), "--json"]) == 0
    assert "num_workers" not in {entry["key"] for entry in json.loads(capsys.readouterr().out)}


def test_diff_takes_two_single_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for place, said in ((str(EXAMPLES), "it holds 51 runs"), (str(tmp_path), "it holds 0 runs")):
        assert main(["diff", place, str(example("gelu"))]) == 2
        assert said in capsys.readouterr().err


def saved(file: Path, right: np.ndarray, **changes: object) -> Path:
    labels = np.arange(len(right)) % 10
    predicted = np.where(right, labels, (labels + 1) % 10)
    images = dataclasses.replace(IMAGES, **changes)  # type: ignore[arg-type]
    write_predictions(file, Predictions(images, labels, predicted, np.full(len(right), 0.5)))
    return file


def pair(folder: Path, *counts: int) -> tuple[Path, Path]:
    """Files of two runs with so many images both right, only the first, only the second, both wrong; shuffled."""
    right = np.random.default_rng(0).permutation(np.repeat(CELLS, counts, axis=0))
    return saved(folder / "first.npz", right[:, 0]), saved(folder / "second.npz", right[:, 1])


def test_a_table_counted_by_hand(tmp_path: Path) -> None:
    """Three images only the first gets right, nine only the second: p = 2 P(B <= 3) of 12 tosses = 2 * 299 / 4096."""
    first, second = pair(tmp_path, 60, 3, 9, 28)
    result = compare_predictions(first, second)
    assert (result.images, result.only_first, result.only_second, result.difference) == (100, 3, 9, 6.0)
    assert result.p == pytest.approx(2 * (1 + 12 + 66 + 220) / 4096)
    assert "right on 9 that the first gets wrong, and wrong on 3 that it gets right: +6.00 points" in str(result)
    assert "McNemar's p = 0.15" in str(result)
    turned = compare_predictions(second, first)
    assert (turned.difference, turned.p) == (-result.difference, result.p)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (10, 14), (12, 13), (30, 60), (500, 400)])
def test_p_is_binomial_for_few_images_and_chi_squared_for_many(first: int, second: int, tmp_path: Path) -> None:
    result = compare_predictions(*pair(tmp_path, 1000, first, second, 10))
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    if first + second >= 25:
        expected = stats.chi2.sf((abs(first - second) - 1) ** 2 / (first + second), 1)
    assert result.p == pytest.approx(expected)


def test_the_interval_is_that_of_resampled_images(tmp_path: Path) -> None:
    result = compare_predictions(*pair(tmp_path, 300, 20, 45, 35))
    first, second = np.repeat(CELLS, (300, 20, 45, 35), axis=0).astype(float).T
    chosen = np.random.default_rng(2).integers(0, 400, size=(4000, 400))
    low, high = np.percentile(100 * (second - first)[chosen].mean(axis=1), [2.5, 97.5])
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.3)
    assert result.low < result.difference == 6.25 < result.high


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "cifar10"}, r"data \(digits and cifar10\)"),
        ({"digest": "cd34"}, r"digest \(ab12 and cd34\)"),
        ({"left_out": (4,)}, r"left_out \(\(\) and \(4,\)\)"),
        ({"image_size": 64}, r"image_size \(32 and 64\)"),
        ({"crop_ratio": 0.875}, r"crop_ratio \(1\.0 and 0\.875\)"),
        ({"resize": "squeeze"}, r"resize \(shorter_side and squeeze\)"),
        ({"count": 21}, r"images \(20 and 21\)"),
    ],
)
def test_other_images_are_not_paired(changes: dict, message: str, tmp_path: Path) -> None:
    one = saved(tmp_path / "one.npz", np.ones(20, bool))
    other = saved(tmp_path / "other.npz", np.ones(changes.pop("count", 20), bool), **changes)
    with pytest.raises(RequestError, match=rf"one\.npz and .*other\.npz cannot be paired: they differ in {message}"):
        compare_predictions(one, other)
