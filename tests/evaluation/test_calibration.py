"""The floor of the calibration error, against exact binomial means and simulated classifiers."""

import numpy as np
import pytest
from scipy import stats

from roadmap.evaluation.calibration import calibration_error, calibration_floor


def test_the_floor_of_equal_confidences_is_the_binomials_mean_deviation() -> None:
    # two bins: 40 images at 0.9 and 10 at 0.3
    confidence = np.repeat([0.9, 0.3], [40, 10])
    exact = 0.0
    for n, p in ((40, 0.9), (10, 0.3)):
        counts = np.arange(n + 1)
        exact += stats.binom.pmf(counts, n, p) @ np.abs(counts - n * p)
    assert calibration_floor(confidence, draws=20_000) == pytest.approx(100 * exact / 50, rel=0.02)
    assert calibration_floor(confidence) == pytest.approx(100 * exact / 50, rel=0.1)


def test_a_calibrated_classifier_has_the_floor_and_others_more() -> None:
    source = np.random.default_rng(1)
    confidence = source.beta(4, 1, 1200)
    floor = calibration_floor(confidence)
    calibrated = [calibration_error(confidence, source.random(1200) < confidence) for _ in range(200)]
    assert np.mean(calibrated) == pytest.approx(floor, rel=0.06)
    # as overconfident as 0.9 for 0.81
    assert calibration_error(confidence, source.random(1200) < confidence**2) > 3 * floor
    # the error falls as the root of the number of images
    assert calibration_floor(np.tile(confidence, 4)) == pytest.approx(floor / 2, rel=0.06)
    assert calibration_floor(np.ones(10)) == 0
