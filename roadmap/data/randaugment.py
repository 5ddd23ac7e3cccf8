"""RandAugment's operations on uint8 arrays (H, W, 3), several times as fast as Pillow's; which, how often and how
strong is drawn by torchvision.

Each is torchvision's operation on a PIL image: to the grey level for the tables of values, within rounding for sums,
within interpolation for movements (`tests/data/test_image.py`).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from roadmap.data.augment import RandAugment

Pixels = np.ndarray  # uint8 (H, W, 3)

# a worker is one of as many as there are cores
cv2.setNumThreads(0)

LEVELS = np.arange(256)
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's SMOOTH


class ArrayRandAugment(RandAugment):
    """RandAugment of an image uint8 (3, H, W) in channels_last memory, without copies."""

    def apply(self, images: Tensor, name: str, magnitude: float) -> Tensor:
        pixels = OPERATIONS[name](images.permute(1, 2, 0).numpy(), magnitude)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def moved(pixels: Pixels, matrix: list[list[float]]) -> Pixels:
    """Each pixel taken from where ``matrix`` (2, 3) sends it, bilinear, black outside."""
    a = np.array(matrix, dtype=float)
    # the matrix is about pixels' corners, cv2's about their centres
    a[:, 2] += a[:, :2].sum(1) / 2 - 0.5
    size = (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(pixels, a, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def shifted(pixels: Pixels, right: int, down: int) -> Pixels:
    """Moved by whole pixels, black where nothing comes from."""
    height, width = pixels.shape[:2]
    result = np.zeros_like(pixels)
    result[max(down, 0) : height + down, max(right, 0) : width + right] = pixels[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return result


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Counter-clockwise about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    return moved(pixels, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def looked_up(pixels: Pixels, table: np.ndarray) -> Pixels:
    """Each value replaced by its entry in a table (256,), or (256, 3) with a column a channel."""
    return cv2.LUT(pixels, rounded(table).reshape(1, 256, -1))


def rounded(values: np.ndarray) -> np.ndarray:
    """Cut off to uint8 as Pillow's blending does: towards zero, within 0 to 255."""
    return np.clip(values, 0, 255).astype(np.uint8)


def brightness(pixels: Pixels, change: float) -> Pixels:
    return looked_up(pixels, LEVELS * (1 + change))


def contrast(pixels: Pixels, change: float) -> Pixels:
    mean = int(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return looked_up(pixels, mean + (LEVELS - mean) * (1 + change))


def color(pixels: Pixels, change: float) -> Pixels:
    return cv2.transform(pixels, (1 + change) * np.eye(3) - change * GREY)


def sharpness(pixels: Pixels, change: float) -> Pixels:
    kernel = -change * SMOOTH
    kernel[1, 1] += 1 + change
    sharpened = cv2.filter2D(pixels, -1, kernel)
    # Pillow's filter leaves the border as it is
    inner = (slice(1, -1), slice(1, -1))
    if min(pixels.shape[:2]) > 2:
        result = pixels.copy()
        result[inner] = sharpened[inner]
        return result
    return pixels


def posterize(pixels: Pixels, bits: float) -> Pixels:
    return looked_up(pixels, LEVELS & ~(2 ** (8 - int(bits)) - 1))


def solarize(pixels: Pixels, threshold: float) -> Pixels:
    return looked_up(pixels, np.where(255 * threshold > LEVELS, LEVELS, 255 - LEVELS))


def autocontrast(pixels: Pixels, _: float) -> Pixels:
    tables = []
    for channel in cv2.split(pixels):
        low, high = cv2.minMaxLoc(channel)[:2]
        tables.append((LEVELS - low) * (255 / (high - low)) if high > low else LEVELS)
    return looked_up(pixels, np.stack(tables, 1))


def equalize(pixels: Pixels, _: float) -> Pixels:
    tables = []
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel().astype(int)
        seen = counts[counts > 0]
        step = (seen.sum() - seen[-1]) // 255
        before = np.cumsum(counts) - counts
        tables.append((before + step // 2) // step if len(seen) > 1 and step else LEVELS)
    return looked_up(pixels, np.stack(tables, 1))


OPERATIONS: dict[str, Callable[[Pixels, float], Pixels]] = {
    "Identity": lambda pixels, _: pixels,
    "ShearX": lambda pixels, shear: moved(pixels, [[1, shear, 0], [0, 1, 0]]),
    "ShearY": lambda pixels, shear: moved(pixels, [[1, 0, 0], [shear, 1, 0]]),
    "TranslateX": lambda pixels, shift: shifted(pixels, int(shift), 0),
    "TranslateY": lambda pixels, shift: shifted(pixels, 0, int(shift)),
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
