"""One encoded image into the pixels that a network is trained or evaluated on: uint8 (3, S, S)."""

import io
import math

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2

from roadmap.data.augment import TRIES, whole_box
from roadmap.data.randaugment import ArrayRandAugment, Pixels
from roadmap.schema.recipe import AugmentRecipe

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class UndecodableError(ValueError):
    """Bytes that are no whole image; the message says why in a few words."""


def decode(data: bytes) -> Pixels:
    """An encoded image as RGB, as Pillow reads it, without the rotation that a camera may have noted beside it.

    Whole JPEGs take the faster way, through the same libjpeg-turbo: they come out equal. Raises UndecodableError.
    """
    # cv2 fills up a file that was cut off, where Pillow refuses it: what does not end as it should is Pillow's
    if data.startswith(JPEG_START) and data.endswith(JPEG_END) and not _needs_pillow(data):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    # what Pillow raises for damaged files
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UndecodableError(" ".join(str(error).split())) from error


def _needs_pillow(data: bytes) -> bool:
    """Whether a JPEG has another number of channels than one or three: CMYK, whose conversion differs."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        # a start of frame, of any kind of compression
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[place + 9] not in (1, 3)
        place += 2 + length
    return True


class TrainingImage:
    """Decoded, random resized crop, flip, RandAugment; bytes -> uint8 (3, S, S). Draws from torch's CPU generator.

    The crop is resampled once, smoothed where it shrinks (antialias), by torch's kernels for uint8.
    """

    def __init__(self, recipe: AugmentRecipe, image_size: int):
        self.recipe, self.size = recipe, image_size
        self.ops = ArrayRandAugment.ops_of(recipe)

    def __call__(self, data: bytes) -> Tensor:
        image = as_batch(decode(data))
        flip, *draws = torch.rand(3 + 2 * TRIES).tolist()
        top, left, height, width = crop_box(image.shape[2], image.shape[3], self.recipe, draws)
        image = image[..., top : top + height, left : left + width]
        image = resized(image, self.size, self.size, self.recipe.interpolation)
        image = image.flip(3)[0] if flip < self.recipe.horizontal_flip else image[0]
        for op in self.ops:
            image = op(image)
        return image


def crop_box(height: int, width: int, recipe: AugmentRecipe, draws: list[float]) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random resized crop, as torchvision draws it, from ``draws`` in 0 to 1.

    The first two place the box, each pair after them is a try at its area and aspect. A fifth of the time of
    torchvision's own, which calls torch for every number.
    """
    (least, most), (low, high) = recipe.crop_scale, recipe.crop_aspect
    for first, second in zip(draws[2::2], draws[3::2], strict=True):
        area = height * width * (least + (most - least) * first)
        aspect = low * (high / low) ** second
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(draws[0] * (height - box_height + 1)), int(draws[1] * (width - box_width + 1))
            return top, left, box_height, box_width
    box_height, box_width = whole_box(height, width, recipe.crop_aspect)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


class EvaluationImage:
    """Decoded, shorter side to size / crop_ratio, centre crop; bytes -> uint8 (3, S, S)."""

    def __init__(self, image_size: int, crop_ratio: float, interpolation: str):
        self.crop = v2.CenterCrop(image_size)
        self.resized, self.interpolation = round(image_size / crop_ratio), interpolation

    def __call__(self, data: bytes) -> Tensor:
        image = as_batch(decode(data))
        height, width = image.shape[2:]
        # the longer side is cut off to whole pixels, as torchvision's Resize does
        tall = (self.resized, int(self.resized * width / height)) if height <= width else None
        new_height, new_width = tall or (int(self.resized * height / width), self.resized)
        return self.crop(resized(image, new_height, new_width, self.interpolation))[0]


def as_batch(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) -> (1, 3, H, W) on the same memory.

    With the first dimension's stride at its full value torch sees channels_last in crops too: its resampling takes two
    thirds of the time and leaves pixels together, as OpenCV wants them.
    """
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


def resized(image: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """uint8 (1, 3, H, W) -> (1, 3, height, width), antialiased: Pillow's resampling to a grey level."""
    if image.shape[2:] == (height, width):
        return image
    return nn_functional.interpolate(image, (height, width), mode=interpolation, antialias=True)
