"""Two runs on the same images, against tables counted by hand, the binomial distribution, SciPy and a simulation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from roadmap.comparison.mcnemar import compare_predictions, sentence
from roadmap.errors import RequestError
from roadmap.runs.evaluations import EvaluatedImages, Predictions, write_predictions

IMAGES = EvaluatedImages("digits", "ab12", 32, 1.0, ())
CELLS = ((True, True), (True, False), (False, True), (False, False))  # first right, second right


def saved(file: Path, right: np.ndarray, **changes: object) -> Path:
    labels = np.arange(len(right)) % 10
    predicted = np.where(right, labels, (labels + 1) % 10)
    write_predictions(
        file, Predictions(dataclasses.replace(IMAGES, **changes), labels, predicted, np.full(len(right), 0.5))
    )
    return file


def pair(folder: Path, *counts: int) -> tuple[Path, Path]:
    """Files of two runs with so many images both right, only the first, only the second, both wrong; shuffled."""
    right = np.random.default_rng(0).permutation(np.repeat(CELLS, counts, axis=0))
    return saved(folder / "first.npz", right[:, 0]), saved(folder / "second.npz", right[:, 1])


def test_a_table_counted_by_hand(tmp_path: Path) -> None:
    """Three images only the first gets right, nine only the second: p = 2 P(B <= 3) of 12 tosses = 2 * 299 / 4096."""
    result = compare_predictions(*pair(tmp_path, 60, 3, 9, 28))
    assert (result.images, result.both_right, result.only_first, result.only_second, result.both_wrong) == (
        *(100, 60, 3, 9, 28),
    )
    assert (result.first_top1, result.second_top1, result.difference) == (63.0, 69.0, 6.0)
    assert result.test == "exact"
    assert result.p == pytest.approx(2 * (1 + 12 + 66 + 220) / 4096)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (5, 0), (10, 14), (12, 12), (2, 22)])
def test_few_images_that_differ_are_tossed_as_coins(first: int, second: int, tmp_path: Path) -> None:
    result = compare_predictions(*pair(tmp_path, 50, first, second, 10))
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert result.test == "exact"
    assert result.p == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(12, 13), (30, 60), (500, 400)])
def test_many_are_compared_by_chi_squared(first: int, second: int, tmp_path: Path) -> None:
    result = compare_predictions(*pair(tmp_path, 1000, first, second, 10))
    statistic = (abs(first - second) - 1) ** 2 / (first + second)
    assert result.test == "chi-squared with continuity correction"
    assert result.p == pytest.approx(stats.chi2.sf(statistic, 1))
    assert result.p == pytest.approx(stats.binomtest(first, first + second).pvalue, rel=0.15), "an approximation"


def test_the_order_of_the_runs_turns_the_sign_only(tmp_path: Path) -> None:
    first, second = pair(tmp_path, 800, 40, 90, 70)
    one, other = compare_predictions(first, second), compare_predictions(second, first)
    assert (one.difference, one.p) == (-other.difference, other.p)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.2)
    assert compare_predictions(first, second) == one, "the same files give the same interval"


def test_the_interval_is_that_of_resampled_images(tmp_path: Path) -> None:
    """SciPy's paired bootstrap of the two runs' images, and one of plain NumPy."""
    result = compare_predictions(*pair(tmp_path, 300, 20, 45, 35))
    first, second = np.repeat(CELLS, (300, 20, 45, 35), axis=0).astype(float).T
    theirs = stats.bootstrap(
        (second, first),
        lambda a, b, axis: 100 * (a.mean(axis=axis) - b.mean(axis=axis)),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    chosen = np.random.default_rng(2).integers(0, 400, size=(4000, 400))
    plain = np.percentile(100 * (second - first)[chosen].mean(axis=1), [2.5, 97.5])
    assert (result.low, result.high) == pytest.approx((theirs.low, theirs.high), abs=0.3)
    assert (result.low, result.high) == pytest.approx(tuple(plain), abs=0.3)
    assert result.low < result.difference == 6.25 < result.high


def test_the_interval_covers_the_difference_of_all_images(tmp_path: Path) -> None:
    """300 test sets of 500 images from a population in which the second is better by 3 points."""
    rng, shares, covered = np.random.default_rng(0), (0.7, 0.06, 0.09, 0.15), 0
    for _ in range(300):
        result = compare_predictions(*pair(tmp_path, *rng.multinomial(500, shares)))
        covered += result.low <= 3 <= result.high
    assert 0.92 <= covered / 300 <= 0.98


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "cifar10"}, "the data is digits and cifar10"),
        ({"digest": "cd34"}, "the images of digits or their labels differ, or are in another order"),
        ({"left_out": (4,)}, "different images could not be read"),
        ({"image_size": 64}, "32 and 64 pixels"),
        ({"crop_ratio": 0.875}, r"1\.0 and 0\.875 of the resized side"),
    ],
)
def test_other_images_are_not_paired(changes: dict, message: str, tmp_path: Path) -> None:
    one = saved(tmp_path / "one.npz", np.ones(20, bool))
    other = saved(tmp_path / "other.npz", np.ones(20, bool), **changes)
    with pytest.raises(RequestError, match=rf"one\.npz and .*other\.npz cannot be paired: {message}") as error:
        compare_predictions(one, other)
    assert "\n" not in str(error.value)


def test_sets_of_different_length_are_not_paired(tmp_path: Path) -> None:
    one, other = (saved(tmp_path / f"{count}.npz", np.ones(count, bool)) for count in (20, 21))
    with pytest.raises(RequestError, match="they have 20 and 21 images"):
        compare_predictions(one, other)


def test_the_sentence(tmp_path: Path) -> None:
    result = dataclasses.replace(compare_predictions(*pair(tmp_path, 60, 3, 9, 28)), low=-0.5, high=12.5)
    assert sentence(result) == (
        "on the same 100 images the second run is right on 9 that the first gets wrong, and wrong on 3 that it gets "
        "right: +6.00 points (95 % bootstrap interval -0.50 to +12.50; McNemar's exact p = 0.15); this is the "
        "uncertainty from the test images for these two trained networks, not from the training seed"
    )
    alike = compare_predictions(*pair(tmp_path, 60, 0, 0, 40))
    assert sentence(alike) == "both runs are right on the same 60 of 100 images"
