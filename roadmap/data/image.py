"""Image files to tensors uint8 (3, S, S): decoding, crops, and RandAugment's operations on arrays uint8 (H, W, 3).

The operations give Pillow's values, which timm's and torchvision's are made of, most of them several times as fast:
value tables, blends and rotations exactly, shears and translations within one level (`tests/data/test_randaugment.py`).
"""

import io
import math
import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2

from roadmap.data.randaugment import OPERATIONS, draw_one, geometry
from roadmap.schema.experiment import EvalTransform
from roadmap.schema.recipe import AugmentRecipe

Pixels = np.ndarray  # uint8 (H, W, 3)
Operation = Callable[[Pixels, float], Pixels]

# each worker process uses one core
cv2.setNumThreads(0)

LEVELS = np.arange(256)
TRUNCATE = -0.4999  # added before OpenCV rounds; 99.99999 for 100 in float32 stays 100
TRIES = 10  # for a crop that fits, as in torchvision
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's filter of that name


class UndecodableError(ValueError):
    """Bytes that are not a complete image; the message says why."""


def decode(data: bytes | Pixels) -> Pixels:
    """Decode an image as Pillow does, to RGB, ignoring EXIF orientation; pixels stay. Raises UndecodableError.

    Complete JPEGs are decoded by OpenCV, which is faster and gives equal pixels, except for CMYK.
    """
    if isinstance(data, np.ndarray):
        return data
    # OpenCV fills in a truncated file, which Pillow refuses
    if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        height, width, channels = jpeg_shape(data)
        if channels in (1, 3) and 0 < height * width <= (Image.MAX_IMAGE_PIXELS or 0):
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UndecodableError(" ".join(str(error).split())) from error


def jpeg_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels in the header of a JPEG's frame; zeros if there is none."""
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HHB", data, place + 5)
        # any number of bytes 0xFF may precede a marker
        place += 1 if kind == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0, 0, 0


def as_batch(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) in the same memory.

    The batch dimension keeps its full stride, so torch recognises channels_last in crops too. Resizing then takes two
    thirds of the time and returns interleaved channels, as OpenCV requires.
    """
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


class TrainImageTransform:
    """Decode, random resized crop, flip, RandAugment: bytes to uint8 (3, S, S). Uses torch's CPU generator."""

    def __init__(self, recipe: AugmentRecipe, image_size: int, mean: tuple[float, ...]):
        self.recipe, self.size = recipe, (image_size, image_size)
        self.operations: dict[int, Operation] = {}
        if recipe.randaugment is not None:
            self.operations = operations(*geometry(recipe.randaugment, recipe.interpolation, mean))

    def __call__(self, data: bytes | Pixels) -> Tensor:
        images = as_batch(decode(data))
        top, left, height, width, mirrored = self.draw_crop(*images.shape[2:])
        images = images[..., top : top + height, left : left + width]
        # faster than the transform's forward, with the same result
        image = nn_functional.interpolate(images, self.size, mode=self.recipe.interpolation, antialias=True)[0]
        if mirrored:
            image = image.flip(2)
        return self.randaugment(image) if self.operations else image

    def draw_crop(self, height: int, width: int) -> tuple[int, int, int, int, bool]:
        """Top, left, height and width of torchvision's random resized crop, and whether it is mirrored.

        In Python from numbers drawn at once: a fifth of the time of torchvision's, between other work.
        """
        (least, most), (low, high) = self.recipe.crop_scale, self.recipe.crop_aspect
        mirrored, down, right, *tries = torch.rand(3 + 2 * TRIES, dtype=torch.float64).tolist()
        mirror = mirrored < self.recipe.horizontal_flip
        for share, form in zip(tries[::2], tries[1::2], strict=True):
            area = height * width * (least + share * (most - least))
            aspect = low * (high / low) ** form
            box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < box_width <= width and 0 < box_height <= height:
                top, left = int(down * (height - box_height + 1)), int(right * (width - box_width + 1))
                return top, left, box_height, box_width, mirror
        # the largest of an allowed aspect, in the centre
        box_height, box_width = min(height, round(width / low)), min(width, round(height * high))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width, mirror

    def randaugment(self, image: Tensor) -> Tensor:
        """Apply the operations drawn for an image uint8 (3, S, S) in channels_last memory."""
        assert self.recipe.randaugment is not None
        pixels = image.permute(1, 2, 0).numpy()
        for place, argument in draw_one(self.recipe.randaugment, self.size[0]):
            pixels = self.operations[place](pixels, argument)
        return torch.from_numpy(pixels).permute(2, 0, 1)


class EvalImageTransform:
    """Decode and apply ``eval_crop``: bytes to uint8 (3, S, S)."""

    def __init__(self, transform: EvalTransform):
        self.crop = eval_crop(transform)

    def __call__(self, data: bytes | Pixels) -> Tensor:
        return self.crop(as_batch(decode(data)))[0]


def eval_crop(transform: EvalTransform) -> v2.Compose:
    """Resize the shorter side, or both, to size / crop_ratio and crop the centre."""
    side = round(transform.image_size / transform.crop_ratio)
    sides = [side, side] if transform.resize == "squeeze" else [side]
    resize = v2.Resize(sides, v2.InterpolationMode(transform.interpolation))
    return v2.Compose([resize, v2.CenterCrop(transform.image_size)])


def operations(interpolation: str, fill: tuple[int, ...]) -> dict[int, Operation]:
    """RandAugment's operations by index in ``OPERATIONS``; the geometric ones resample and fill as given."""
    moves: dict[str, Operation] = {
        "ShearX": partial(shear, interpolation=interpolation, fill=fill),
        "TranslateX": partial(translate, interpolation=interpolation, fill=fill),
        "Rotate": partial(rotate, interpolation=interpolation, fill=fill),
    }
    for name in ("Shear", "Translate"):
        moves[f"{name}Y"] = partial(transposed, moves[f"{name}X"])
    return {place: (VALUE_OPERATIONS | moves)[name] for place, name in enumerate(OPERATIONS)}


def rotate(pixels: Pixels, degrees: float, interpolation: str, fill: tuple[int, ...]) -> Pixels:
    resample = Image.Resampling[interpolation.upper()]
    return np.array(Image.fromarray(pixels).rotate(degrees, resample, fillcolor=fill))


def transposed(operation: Operation, pixels: Pixels, argument: float) -> Pixels:
    return cv2.transpose(operation(cv2.transpose(pixels), argument))


def taps(interpolation: str, fraction: Any) -> np.ndarray:
    """Weights of the pixels -1, 0, 1, 2 for a place ``fraction`` behind pixel 0: (4, …). Pillow's cubic has a = -1."""
    d = fraction
    if interpolation == "bilinear":
        return np.array([0 * d, 1 - d, d, 0 * d], np.float32)
    return np.array([-d * (1 - d) ** 2, 1 - d * d * (2 - d), d * (1 + d * (1 - d)), -d * d * (1 - d)], np.float32)


def translate(pixels: Pixels, left: float, interpolation: str, fill: tuple[int, ...]) -> Pixels:
    """Value at (x, y) from (x + left, y), ``fill`` from outside the image."""
    width, whole, first = pixels.shape[1], math.floor(left), math.ceil(-0.5 - left)
    padded = cv2.copyMakeBorder(pixels, 0, 0, 1, 0, cv2.BORDER_REPLICATE)
    kernel = taps(interpolation, left - whole)[None]
    between = cv2.filter2D(padded, -1, kernel, anchor=(1, 0), delta=TRUNCATE, borderType=cv2.BORDER_REPLICATE)
    begin, end = min(max(first, 0), width), max(min(first + width, width), 0)
    result = _filled(pixels.shape, fill).copy()
    result[:, begin:end] = between[:, begin + whole + 1 : end + whole + 1]
    return result


def shear(pixels: Pixels, slope: float, interpolation: str, fill: tuple[int, ...]) -> Pixels:
    """Value at (x, y) from (x + slope · y, y), ``fill`` from outside the image."""
    height, width = pixels.shape[:2]
    shifts = slope * (np.arange(height) + 0.5)
    whole = np.floor(shifts).astype(int)
    # the pixels that each row needs, at its fraction of a pixel from where they are
    left, right = max(1 - int(whole[[0, -1]].min()), 0), max(int(whole[[0, -1]].max()) + 2, 0)
    padded = cv2.copyMakeBorder(pixels, 0, 0, left, right, cv2.BORDER_REPLICATE)
    starts = np.arange(height) * (width + left + right) + left + whole - 1
    rows = torch.from_numpy(_windows(padded, 3 * (width + 3))[3 * starts]).float()
    weights = torch.from_numpy(taps(interpolation, shifts - whole))[..., None]
    sheared = rows[:, : 3 * width] * weights[0]
    for tap in (1, 2, 3):
        sheared.addcmul_(rows[:, 3 * tap : 3 * (tap + width)], weights[tap])
    values = cv2.add(sheared.numpy(), TRUNCATE, dtype=cv2.CV_8U)  # type: ignore[call-overload]

    first = np.ceil(-0.5 - shifts).astype(int).clip(-width, width)
    inside = np.repeat(np.array([0, 1, 0], np.uint8), width)
    return cv2.copyTo(
        values.reshape(pixels.shape), _windows(inside, width)[width - first], _filled(pixels.shape, fill).copy()
    )


def _windows(values: np.ndarray, length: int) -> np.ndarray:
    """All parts of so many values of a contiguous array uint8, as a view (number, length)."""
    return np.ndarray((values.size - length + 1, length), np.uint8, values, strides=(1, 1))


@lru_cache(1)
def _filled(shape: tuple[int, ...], colour: tuple[int, ...]) -> Pixels:
    return np.full(shape, colour, np.uint8)


def apply_table(pixels: Pixels, table: np.ndarray) -> Pixels:
    """Replace each value by its entry, truncated as by Pillow, in a table (256,), or (256, 3): a column per channel."""
    return cv2.LUT(pixels, truncated(table).reshape(1, 256, -1))


def blend(degenerate: np.ndarray | int, values: np.ndarray, factor: float) -> np.ndarray:
    """``degenerate`` at a factor of 0, ``values`` at 1, in Pillow's precision; not yet truncated."""
    result = np.subtract(values, degenerate, dtype=np.float32)
    result *= np.float32(factor)
    result += degenerate
    return result


def truncated(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def grey(pixels: Pixels) -> np.ndarray:
    """Uint8 (H, W), as Pillow rounds it."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def colour(pixels: Pixels, factor: float) -> Pixels:
    return truncated(blend(cv2.cvtColor(grey(pixels), cv2.COLOR_GRAY2RGB), pixels, factor))


def contrast(pixels: Pixels, factor: float) -> Pixels:
    return apply_table(pixels, blend(int(grey(pixels).mean() + 0.5), LEVELS, factor))


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    # Pillow's filter does not change the border
    smooth = pixels.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, SMOOTH)[1:-1, 1:-1]
    return truncated(blend(smooth, pixels, factor))


def autocontrast(pixels: Pixels, _: float) -> Pixels:
    tables = []
    for channel in cv2.split(pixels):
        low, high = cv2.minMaxLoc(channel)[:2]
        scale = 255 / (high - low) if high > low else 1.0
        tables.append(LEVELS * scale - (low * scale if high > low else 0))
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


VALUE_OPERATIONS: dict[str, Operation] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": lambda pixels, _: cv2.bitwise_not(pixels),
    "Posterize": lambda pixels, bits: apply_table(pixels, LEVELS & ~(2 ** (8 - int(bits)) - 1)),
    "Solarize": lambda pixels, least: apply_table(pixels, np.where(least > LEVELS, LEVELS, 255 - LEVELS)),
    "SolarizeAdd": lambda pixels, added: apply_table(pixels, np.where(LEVELS < 128, LEVELS + added, LEVELS)),
    "Color": colour,
    "Contrast": contrast,
    "Brightness": lambda pixels, factor: apply_table(pixels, blend(0, LEVELS, factor)),
    "Sharpness": sharpness,
}
