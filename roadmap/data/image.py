"""Image files to tensors uint8 (3, S, S): decoding, crops, and RandAugment with OpenCV.

Each of RandAugment's operations on arrays uint8 (H, W, 3) is several times as fast as Pillow's and equals torchvision's
on a PIL image: exactly for value tables, up to rounding for sums and up to interpolation for geometric operations
(`tests/data/test_image.py`).
"""

import io
import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2

from roadmap.data.augment import RandAugment
from roadmap.schema.recipe import AugmentRecipe

Pixels = np.ndarray  # uint8 (H, W, 3)

# each worker process uses one core
cv2.setNumThreads(0)

LEVELS = np.arange(256)
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's SMOOTH


class UndecodableError(ValueError):
    """Bytes that are not a complete image; the message says why."""


def decode(data: bytes) -> Pixels:
    """Decode an image as Pillow does, to RGB, ignoring EXIF orientation. Raises UndecodableError.

    Complete JPEGs are decoded by OpenCV, which is faster and gives equal pixels, except for CMYK.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # OpenCV fills in a truncated file, which Pillow refuses
            if image.format == "JPEG" and image.mode != "CMYK" and data.endswith(b"\xff\xd9"):
                flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
                if pixels is not None:
                    return pixels
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UndecodableError(" ".join(str(error).split())) from error


def as_batch(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) in the same memory.

    The batch dimension keeps its full stride, so torch recognises channels_last in crops too. Resizing then takes two
    thirds of the time and returns interleaved channels, as OpenCV requires.
    """
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


class TrainImageTransform:
    """Decode, random resized crop, flip, RandAugment: bytes to uint8 (3, S, S). Uses torch's CPU generator."""

    def __init__(self, recipe: AugmentRecipe, image_size: int):
        self.recipe, self.size = recipe, (image_size, image_size)
        self.crop = v2.RandomResizedCrop(image_size, recipe.crop_scale, recipe.crop_aspect)
        self.ops = ArrayRandAugment.ops_of(recipe)

    def __call__(self, data: bytes) -> Tensor:
        images = as_batch(decode(data))
        box = self.crop.make_params([images])
        rows, columns = slice(box["top"], box["top"] + box["height"]), slice(box["left"], box["left"] + box["width"])
        images = images[..., rows, columns]
        # faster than the transform's forward, with the same result
        image = nn_functional.interpolate(images, self.size, mode=self.recipe.interpolation, antialias=True)[0]
        if torch.rand(()) < self.recipe.horizontal_flip:
            image = image.flip(2)
        for op in self.ops:
            image = op(image)
        return image


class EvalImageTransform:
    """Decode and apply ``eval_crop``: bytes to uint8 (3, S, S)."""

    def __init__(self, image_size: int, crop_ratio: float, interpolation: str):
        self.crop = eval_crop(image_size, crop_ratio, interpolation)

    def __call__(self, data: bytes) -> Tensor:
        return self.crop(as_batch(decode(data)))[0]


def eval_crop(image_size: int, crop_ratio: float, interpolation: str) -> v2.Compose:
    """Resize the shorter side to size / crop_ratio and crop the centre."""
    resize = v2.Resize(round(image_size / crop_ratio), v2.InterpolationMode(interpolation))
    return v2.Compose([resize, v2.CenterCrop(image_size)])


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
    return cv2.warpAffine(pixels, a, pixels.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def translate(pixels: Pixels, right: int, down: int) -> Pixels:
    """Translate by whole pixels, black outside."""
    (height, width), result = pixels.shape[:2], np.zeros_like(pixels)
    rows, columns = slice(max(-down, 0), height - down), slice(max(-right, 0), width - right)
    result[max(down, 0) : height + down, max(right, 0) : width + right] = pixels[rows, columns]
    return result


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate counter-clockwise about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    return affine(pixels, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def apply_table(pixels: Pixels, table: np.ndarray) -> Pixels:
    """Replace each value by its entry, truncated as by Pillow, in a table (256,), or (256, 3): a column per channel."""
    return cv2.LUT(pixels, np.clip(table, 0, 255).astype(np.uint8).reshape(1, 256, -1))


def contrast(pixels: Pixels, change: float) -> Pixels:
    mean = int(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return apply_table(pixels, mean + (LEVELS - mean) * (1 + change))


def sharpness(pixels: Pixels, change: float) -> Pixels:
    kernel = -change * SMOOTH
    kernel[1, 1] += 1 + change
    # Pillow's filter does not change the border
    result = pixels.copy()
    result[1:-1, 1:-1] = cv2.filter2D(pixels, -1, kernel)[1:-1, 1:-1]
    return result


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
        tables.append((before + step // 2) // step if step else LEVELS)
    return apply_table(pixels, np.stack(tables, 1))


OPERATIONS: dict[str, Callable[[Pixels, float], Pixels]] = {
    "Identity": lambda pixels, _: pixels,
    "ShearX": lambda pixels, shear: affine(pixels, [[1, shear, 0], [0, 1, 0]]),
    "ShearY": lambda pixels, shear: affine(pixels, [[1, 0, 0], [shear, 1, 0]]),
    "TranslateX": lambda pixels, right: translate(pixels, int(right), 0),
    "TranslateY": lambda pixels, down: translate(pixels, 0, int(down)),
    "Rotate": rotate,
    "Brightness": lambda pixels, change: apply_table(pixels, LEVELS * (1 + change)),
    "Color": lambda pixels, change: cv2.transform(pixels, (1 + change) * np.eye(3) - change * GREY),
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": lambda pixels, bits: apply_table(pixels, LEVELS & ~(2 ** (8 - int(bits)) - 1)),
    "Solarize": lambda pixels, share: apply_table(pixels, np.where(255 * share > LEVELS, LEVELS, 255 - LEVELS)),
    "AutoContrast": autocontrast,
    "Equalize": equalize,
}
