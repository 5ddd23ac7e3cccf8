"""RandAugment's operations on uint8 arrays (H, W, 3) with OpenCV, several times as fast as Pillow's.

Each equals torchvision's operation on a PIL image: exactly for value tables, up to rounding for sums and up to
interpolation for geometric operations (`tests/data/test_image.py`).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from roadmap.data.augment import RandAugment

Pixels = np.ndarray  # uint8 (H, W, 3)

# each worker process uses one core
cv2.setNumThreads(0)

LEVELS = np.arange(256)
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's SMOOTH


class ArrayRandAugment(RandAugment):
    """RandAugment of one image uint8 (3, H, W) in channels_last memory."""

    def apply(self, images: Tensor, name: str, magnitude: float) -> Tensor:
        pixels = OPERATIONS[name](images.permute(1, 2, 0).numpy(), magnitude)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def affine(pixels: Pixels, matrix: list[list[float]]) -> Pixels:
    """Affine transform with the inverse map ``matrix`` (2, 3), bilinear, black outside."""
    a = np.array(matrix, dtype=float)
    # from coordinates of pixel corners to OpenCV's of pixel centres
    a[:, 2] += a[:, :2].sum(1) / 2 - 0.5
    size = (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(pixels, a, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def translate(pixels: Pixels, right: int, down: int) -> Pixels:
    """Translate by whole pixels, black outside."""
    height, width = pixels.shape[:2]
    result = np.zeros_like(pixels)
    result[max(down, 0) : height + down, max(right, 0) : width + right] = pixels[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return result


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate counter-clockwise about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    return affine(pixels, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def apply_table(pixels: Pixels, table: np.ndarray) -> Pixels:
    """Replace each value by its entry in a table (256,), or (256, 3) with one column per channel."""
    return cv2.LUT(pixels, truncated(table).reshape(1, 256, -1))


def truncated(values: np.ndarray) -> np.ndarray:
    """Truncate to uint8, as Pillow's blending does."""
    return np.clip(values, 0, 255).astype(np.uint8)


def brightness(pixels: Pixels, change: float) -> Pixels:
    return apply_table(pixels, LEVELS * (1 + change))


def contrast(pixels: Pixels, change: float) -> Pixels:
    mean = int(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return apply_table(pixels, mean + (LEVELS - mean) * (1 + change))


def color(pixels: Pixels, change: float) -> Pixels:
    return cv2.transform(pixels, (1 + change) * np.eye(3) - change * GREY)


def sharpness(pixels: Pixels, change: float) -> Pixels:
    kernel = -change * SMOOTH
    kernel[1, 1] += 1 + change
    sharpened = cv2.filter2D(pixels, -1, kernel)
    # Pillow's filter does not change the border
    inner = (slice(1, -1), slice(1, -1))
    if min(pixels.shape[:2]) > 2:
        result = pixels.copy()
        result[inner] = sharpened[inner]
        return result
    return pixels


def posterize(pixels: Pixels, bits: float) -> Pixels:
    return apply_table(pixels, LEVELS & ~(2 ** (8 - int(bits)) - 1))


def solarize(pixels: Pixels, threshold: float) -> Pixels:
    return apply_table(pixels, np.where(255 * threshold > LEVELS, LEVELS, 255 - LEVELS))


def autocontrast(pixels: Pixels, _: float) -> Pixels:
    tables = []
    for channel in cv2.split(pixels):
        low, high = cv2.minMaxLoc(channel)[:2]
        tables.append((LEVELS - low) * (255 / (high - low)) if high > low else LEVELS)
    return apply_table(pixels, np.stack(tables, 1))


def equalize(pixels: Pixels, _: float) -> Pixels:
    tables = []
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel().astype(int)
        seen = counts[counts > 0]
        step = (seen.sum() - seen[-1]) // 255
        before = np.cumsum(counts) - counts
        tables.append((before + step // 2) // step if len(seen) > 1 and step else LEVELS)
    return apply_table(pixels, np.stack(tables, 1))


OPERATIONS: dict[str, Callable[[Pixels, float], Pixels]] = {
    "Identity": lambda pixels, _: pixels,
    "ShearX": lambda pixels, shear: affine(pixels, [[1, shear, 0], [0, 1, 0]]),
    "ShearY": lambda pixels, shear: affine(pixels, [[1, 0, 0], [shear, 1, 0]]),
    "TranslateX": lambda pixels, shift: translate(pixels, int(shift), 0),
    "TranslateY": lambda pixels, shift: translate(pixels, 0, int(shift)),
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
}
