"""Metrics of one evaluation's predictions: expected calibration error and class accuracies."""

import numpy as np

BINS = 15


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in percent (Guo et al., arXiv:1706.04599, equations 1 to 3).

    ``confidence`` (n,) is in 0..1 and ``correct`` (n,) is bool. The ``bins`` have equal width and are open below and
    closed above.
    """
    confidence = np.asarray(confidence, np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # a bin's size / n times the difference of its means is the difference of its sums / n
    gaps = np.bincount(index, confidence, bins) - np.bincount(index, correct, bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def class_accuracies(labels: np.ndarray, correct: np.ndarray, num_classes: int) -> tuple[list[int], list[float | None]]:
    """The number of images and the accuracy in percent of each class; None for a class without images.

    ``labels`` (n,) are class indices and ``correct`` (n,) is bool.
    """
    images = np.bincount(labels, minlength=num_classes).tolist()
    hits = np.bincount(labels, correct, num_classes).tolist()
    return images, [100 * hit / count if count else None for hit, count in zip(hits, images, strict=True)]
