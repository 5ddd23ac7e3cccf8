"""Decoding and per-image transforms: bytes to uint8 (3, S, S)."""

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
    """Bytes that are not a complete image; the message says why."""


def decode(data: bytes) -> Pixels:
    """Decode an image as Pillow does, to RGB, ignoring EXIF orientation. Raises UndecodableError.

    Complete JPEGs are decoded by OpenCV, which is faster and uses libjpeg-turbo as Pillow does, with equal results.
    """
    # OpenCV fills in a truncated file, which Pillow refuses
    if data.startswith(JPEG_START) and data.endswith(JPEG_END) and not _needs_pillow(data):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UndecodableError(" ".join(str(error).split())) from error


def _needs_pillow(data: bytes) -> bool:
    """Whether a JPEG has other than one or three channels: OpenCV converts CMYK differently."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        # start of frame
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[place + 9] not in (1, 3)
        place += 2 + length
    return True


class TrainImageTransform:
    """Decode, random resized crop, flip, RandAugment: bytes to uint8 (3, S, S). Uses torch's CPU generator.

    The crop is resized with antialiasing.
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
    """Top, left, height and width of a random resized crop, distributed as torchvision's, from ``draws`` in 0..1.

    The first two draws place the box, and each further pair is an attempt at its area and aspect. It takes a fifth of
    the time of torchvision's, which calls torch for each number.
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


class EvalImageTransform:
    """Decode, resize the shorter side to size / crop_ratio, crop the centre: bytes to uint8 (3, S, S)."""

    def __init__(self, image_size: int, crop_ratio: float, interpolation: str):
        self.crop = v2.CenterCrop(image_size)
        self.resized, self.interpolation = round(image_size / crop_ratio), interpolation

    def __call__(self, data: bytes) -> Tensor:
        image = as_batch(decode(data))
        height, width = image.shape[2:]
        # the longer side is rounded down, as by torchvision's Resize
        new_height, new_width = self.resized, self.resized
        if height <= width:
            new_width = int(self.resized * width / height)
        else:
            new_height = int(self.resized * height / width)
        return self.crop(resized(image, new_height, new_width, self.interpolation))[0]


def as_batch(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) in the same memory.

    The batch dimension keeps its full stride, so torch recognises channels_last in crops too. Resizing then takes two
    thirds of the time and returns interleaved channels, as OpenCV requires.
    """
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


def resized(image: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """Resize uint8 (1, 3, H, W) with antialiasing; within one grey level of Pillow's resize."""
    if image.shape[2:] == (height, width):
        return image
    return nn_functional.interpolate(image, (height, width), mode=interpolation, antialias=True)
