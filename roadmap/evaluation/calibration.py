"""The expected calibration error, and what a perfectly calibrated classifier would have by chance."""

import numpy as np

BINS = 15
DRAWS = 400


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error in percent (Guo et al., arXiv:1706.04599, equations 1 to 3).

    ``confidence`` (n,) is in 0..1 and ``correct`` (n,) is bool. The ``bins`` have equal width and are open below and
    closed above.
    """
    confidence = np.asarray(confidence, np.float64)
    index = _bin_index(confidence, bins)
    # a bin's size / n times the difference of its means is the difference of its sums / n
    gaps = np.bincount(index, confidence, bins) - np.bincount(index, correct, bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def calibration_floor(confidence: np.ndarray, bins: int = BINS, draws: int = DRAWS) -> float:
    """Return the calibration error in percent that perfect calibration has on average, because images are finite.

    The mean of ``calibration_error`` over ``draws`` simulated classifiers with this ``confidence`` (n,), each image
    correct with the probability that its confidence says. The seed is fixed.
    """
    random = np.random.default_rng(0)
    confidence = np.sort(np.asarray(confidence, np.float64))
    index = _bin_index(confidence, bins)
    starts = np.unique(index, return_index=True)[1]
    expected = np.add.reduceat(confidence, starts)
    errors = [
        np.abs(np.add.reduceat(random.random(len(confidence)) < confidence, starts, dtype=float) - expected).sum()
        for _ in range(draws)
    ]
    return float(100 * np.mean(errors) / len(confidence))


def _bin_index(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
