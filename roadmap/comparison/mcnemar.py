"""McNemar's test of two trained networks on the same images.

It asks whether these two networks would differ on other images of the same kind. It says nothing about other seeds of
them, which often differ by more than the interval given here: to compare two designs, train several seeds of each.
"""

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from roadmap.errors import RequestError
from roadmap.runs.evaluations import Predictions, read_predictions

RESAMPLES = 9999
CONFIDENCE = 0.95
EXACT_BELOW = 25  # discordant images; the usual bound of the chi-squared approximation

Test = Literal["exact", "chi-squared with continuity correction"]


@dataclass(frozen=True)
class Paired:
    """The result for two networks on the same ``images``: accuracies in percent, ``difference`` in points.

    ``difference`` is the second accuracy minus the first, with the 95 % percentile interval ``low`` to ``high`` from
    9,999 bootstrap resamples of the images; the interval is too narrow if only a few images are discordant. ``p`` is
    McNemar's, by ``test``: under its hypothesis, an image that only one network classifies correctly is equally likely
    to be the first's or the second's.
    """

    images: int
    first_top1: float
    second_top1: float
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    difference: float
    low: float
    high: float
    p: float
    test: Test


def compare_predictions(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Paired:
    """Compare the saved predictions of two runs, given as run folders or files of predictions.

    Raises RequestError if predictions cannot be read or are not of the same images.
    """
    one, other = read_predictions(first), read_predictions(second)
    _same_images(one, other, f"{first} and {second}")
    from statsmodels.stats.contingency_tables import mcnemar

    table = np.array(
        [[np.sum(mine & theirs) for theirs in (other.right, ~other.right)] for mine in (one.right, ~one.right)]
    )
    (both_right, only_first), (only_second, both_wrong) = table.tolist()
    exact = only_first + only_second < EXACT_BELOW
    low, high = _bootstrap_interval(only_first, only_second, len(one.labels))
    return Paired(
        images=len(one.labels),
        first_top1=one.top1,
        second_top1=other.top1,
        both_right=both_right,
        only_first=only_first,
        only_second=only_second,
        both_wrong=both_wrong,
        difference=100 * (only_second - only_first) / len(one.labels),
        low=low,
        high=high,
        p=float(mcnemar(table, exact=exact, correction=True).pvalue),
        test="exact" if exact else "chi-squared with continuity correction",
    )


def sentence(result: Paired) -> str:
    """The result as one line for a terminal."""
    if not result.only_first and not result.only_second:
        return f"both runs are right on the same {result.both_right:,} of {result.images:,} images"
    test = "exact" if result.test == "exact" else "chi-squared"
    return (
        f"on the same {result.images:,} images the second run is right on {result.only_second:,} that the first gets "
        f"wrong, and wrong on {result.only_first:,} that it gets right: {result.difference:+.2f} points (95 % "
        f"bootstrap interval {result.low:+.2f} to {result.high:+.2f}; McNemar's {test} p {_p(result.p)}); "
        "this is the uncertainty from the test images for these two trained networks, not from the training seed"
    )


def _bootstrap_interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """The 95 % interval of the difference in points.

    The difference of an image is 1, -1 or 0, so a resample of the images is one draw of their three counts from a
    multinomial distribution. ``scipy.stats.bootstrap`` over the images gives the same distribution in seconds instead
    of milliseconds.
    """
    shares = np.array([only_second, only_first, images - only_first - only_second]) / images
    draws = np.random.default_rng(0).multinomial(images, shares, size=RESAMPLES)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(100 * (draws[:, 0] - draws[:, 1]) / images, [tail, 1 - tail])
    return float(low), float(high)


def _same_images(one: Predictions, other: Predictions, which: str) -> None:
    if one.images.data != other.images.data:
        _refuse(which, f"the data is {one.images.data} and {other.images.data}")
    if len(one.labels) != len(other.labels):
        _refuse(which, f"they have {len(one.labels):,} and {len(other.labels):,} images")
    if one.images.left_out != other.images.left_out:
        _refuse(which, "different images could not be read")
    if one.images.digest != other.images.digest or not np.array_equal(one.labels, other.labels):
        _refuse(which, f"the images of {one.images.data} or their labels differ, or are in another order")
    for name, words in (("image_size", "pixels"), ("crop_ratio", "of the resized side are kept by the crop")):
        sizes = [getattr(predictions.images, name) for predictions in (one, other)]
        if sizes[0] != sizes[1]:
            _refuse(which, f"{sizes[0]} and {sizes[1]} {words}")


def _refuse(which: str, why: str) -> None:
    raise RequestError(
        f"the predictions of {which} cannot be paired: {why}; choose two runs evaluated on the same images"
    )


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"= {p:.4f}" if p < 0.01 else f"= {p:.2f}"
