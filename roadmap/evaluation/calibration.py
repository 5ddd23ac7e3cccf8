"""What one evaluation's answers, image by image, add up to: calibration, and the accuracy on each class."""

import numpy as np

BINS = 15


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in percent: how far confidence is from accuracy, averaged over the images.

    Of n images ``confidence`` (n,) from 0 to 1 and ``right`` (n,) bool. ``bins`` of equal width, each open below and
    closed above; Guo et al., arXiv:1706.04599, equations 1 to 3.
    """
    confidence = np.asarray(confidence, np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # the bin's size over n times the gap of its means is the gap of its sums over n
    gaps = np.bincount(place, confidence, bins) - np.bincount(place, right, bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def class_accuracies(labels: np.ndarray, right: np.ndarray, num_classes: int) -> tuple[list[int], list[float | None]]:
    """Of each class how many of n images are of it, and how many percent of these are right; None of none.

    ``labels`` (n,) are class numbers below ``num_classes``, ``right`` (n,) bool.
    """
    images = np.bincount(labels, minlength=num_classes).tolist()
    hits = np.bincount(labels, right, num_classes).tolist()
    return images, [100 * hit / of if of else None for hit, of in zip(hits, images, strict=True)]
