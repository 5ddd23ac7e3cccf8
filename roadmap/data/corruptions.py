"""ImageNet-C's corruptions by name, and those of the weather: snow, frost and fog."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import roadmap.data.corruption_filters as filters
from roadmap.data.corruption_filters import Random, Values, as_pixels, as_values, constants, directional_blur, zoom_in
from roadmap.data.image import Pixels
from roadmap.errors import RequestError
from roadmap.schema.corruptions import SYNTHETIC_FROST, Corruptions
from roadmap.seeds import derived_seed

CIFAR_FROST = 0.2  # scale of the photographs in CIFAR-10-C
GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity; each image has its own random numbers, from its index."""

    request: Corruptions
    name: str
    severity: int

    def __call__(self, image: Tensor, index: int) -> Tensor:
        """Corrupt an image uint8 (3, H, W)."""
        random = np.random.default_rng(derived_seed(self.request.seed, "corruption", self.name, self.severity, index))
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(corrupt(pixels, self.name, self.severity, random, self.request.frost)).permute(2, 0, 1)


def corrupt(pixels: Pixels, name: str, severity: int, random: Random, frost: str | None = None) -> Pixels:
    """Corrupt an image uint8 (H, W, 3); ``frost`` is the folder of photographs that the corruption frost requires."""
    if name in ("frost", SYNTHETIC_FROST):
        scale = 1.0 if filters.uses_imagenet_constants(pixels) else CIFAR_FROST
        pictures = frost_pictures(frost if name == "frost" else None, scale)
        return overlay_frost(pixels, random, pictures, *constants("frost", severity, pixels))
    weather: dict[str, Callable[..., Pixels]] = {"snow": snow, "fog": fog}
    function = weather.get(name) or getattr(filters, name)
    return function(pixels, random, *constants(name, severity, pixels))


def snow(pixels: Pixels, random: Random, *constants: float) -> Pixels:
    # of the flakes: mean, deviation, zoom, threshold, radius and deviation of their motion; weight of the image
    mean, deviation, zoom, threshold, radius, spread, weight = constants
    values = as_values(pixels)
    flakes = zoom_in(mean + deviation * random.standard_normal(pixels.shape[:2], np.float32), zoom)
    flakes[flakes < threshold] = 0
    falling = directional_blur(as_pixels(flakes).astype(np.float32), int(radius), spread, random.uniform(-135, -45))
    layer = np.clip(np.round(falling), 0, 255)[..., None] / 255
    whitened = np.maximum(values, (values @ GREY)[..., None] * 1.5 + 0.5)
    return as_pixels(weight * values + (1 - weight) * whitened + layer + layer[::-1, ::-1])


def fog(pixels: Pixels, random: Random, thickness: float, fading: float) -> Pixels:
    values = as_values(pixels)
    brightest = values.max()
    height, width = pixels.shape[:2]
    clouds = plasma(1 << (max(height, width) - 1).bit_length(), fading, random)[:height, :width, None]
    return as_pixels((values + thickness * clouds) * brightest / (brightest + thickness))


def plasma(size: int, fading: float, random: Random) -> Values:
    """Clouds (size, size) in 0..1 by the diamond-square algorithm on a torus; ``size`` is a power of two.

    The noise is divided by ``fading`` at each finer grid.
    """
    heights = np.zeros((size, size))
    step, noise = size, 100.0

    def with_noise(sums: Values) -> Values:
        return sums / 4 + noise * random.uniform(-noise, noise, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = with_noise(pairs + np.roll(pairs, -1, 1))
        centres = heights[half::step, half::step]
        above = centres + np.roll(centres, 1, 0)
        heights[::step, half::step] = with_noise(above + corners + np.roll(corners, -1, 1))
        left = centres + np.roll(centres, 1, 1)
        heights[half::step, ::step] = with_noise(left + corners + np.roll(corners, -1, 0))
        step, noise = half, noise / fading
    heights -= heights.min()
    return (heights / heights.max()).astype(np.float32)


def overlay_frost(pixels: Pixels, random: Random, pictures: list[Pixels], weight: float, strength: float) -> Pixels:
    """Overlay a random part of one of the pictures of frost, enlarged if it is too small."""
    (height, width), frost = pixels.shape[:2], pictures[random.integers(len(pictures))]
    larger = max(height / frost.shape[0], width / frost.shape[1])
    if larger > 1:
        frost = cv2.resize(frost, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    top, left = random.integers(frost.shape[0] - height + 1), random.integers(frost.shape[1] - width + 1)
    part = frost[top : top + height, left : left + width]
    return np.clip(weight * pixels.astype(np.float32) + strength * part, 0, 255).astype(np.uint8)


@cache
def frost_pictures(folder: str | None, scale: float) -> list[Pixels]:
    """The photographs in a folder, sorted by name, or five synthetic pictures: uint8 (H, W, 3) RGB, scaled.

    Raises RequestError if the folder contains no photograph.
    """
    if folder is None:
        pictures = [synthetic_frost(number) for number in range(5)]
    else:
        read = (cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) for file in sorted(Path(folder).glob("*.*")))
        pictures = [picture for picture in read if picture is not None]
    if not pictures:
        raise RequestError(f"frost={folder} contains no photographs")
    return [cv2.resize(picture, None, fx=scale, fy=scale) for picture in pictures]


def synthetic_frost(number: int) -> Pixels:
    """Patches of ice and needles, uint8 (512, 512, 3), with about the brightness of the published photographs."""
    random, size, mean = np.random.default_rng(number), 512, 75 + 30 * number
    ice = plasma(size, 1.7, random)
    for degrees in random.uniform(0, 360, 6):
        seeds = (random.random((size, size), np.float32) > 0.994).astype(np.float32)
        ice += 3 * directional_blur(seeds, 20, 12, degrees)
    ice = mean + 35 * (ice - ice.mean()) / ice.std()
    # tinted blue
    return np.clip(ice[..., None] * np.array([0.88, 0.98, 1.05], np.float32), 0, 255).astype(np.uint8)
