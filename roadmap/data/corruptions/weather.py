"""Snow, frost and fog of ImageNet-C and CIFAR-10-C, and ``corrupt``, which applies any corruption by name."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from roadmap.data.corruptions.filters import (
    FILTERS,
    Random,
    Values,
    as_pixels,
    as_values,
    constants,
    directional_blur,
    uses_imagenet_constants,
    zoom_in,
)
from roadmap.data.randaugment import Pixels
from roadmap.errors import RequestError
from roadmap.schema.corruptions import SYNTHETIC_FROST, Corruptions
from roadmap.seeds import derived_seed

PHOTOGRAPHS = (".jpg", ".jpeg", ".png")
CIFAR_FROST = 0.2  # scale of the photographs in CIFAR-10-C
GREY = np.array([0.299, 0.587, 0.114], np.float32)


def corrupt(pixels: Pixels, name: str, severity: int, random: Random, frost: str | None = None) -> Pixels:
    """Corrupt an image uint8 (H, W, 3); ``frost`` is the folder of photographs that the corruption frost requires.

    Raises RequestError if that folder contains none.
    """
    published = constants("frost" if name == SYNTHETIC_FROST else name, severity, pixels)
    if name == "frost":
        assert frost is not None
        return overlay_frost(pixels, random, *published, photographs=partial(frost_photographs, frost))
    return (WEATHER.get(name) or FILTERS[name])(pixels, random, *published)


def snow(pixels: Pixels, random: Random, *constants: float) -> Pixels:
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


def overlay_frost(
    pixels: Pixels, random: Random, weight: float, strength: float, *, photographs: Callable[[float], list[Pixels]]
) -> Pixels:
    """Overlay a random part of a photograph of frost, which is scaled down for CIFAR-10-C."""
    choice = photographs(1.0 if uses_imagenet_constants(pixels) else CIFAR_FROST)
    frost = random_part(choice[random.integers(len(choice))], pixels.shape[:2], random)
    return np.clip(weight * pixels.astype(np.float32) + strength * frost, 0, 255).astype(np.uint8)


def random_part(photograph: Pixels, shape: tuple[int, int], random: Random) -> Pixels:
    """A random part of a photograph, which is enlarged if it is too small."""
    height, width = shape
    larger = max(height / photograph.shape[0], width / photograph.shape[1])
    if larger > 1:
        photograph = cv2.resize(photograph, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    top, left = (random.integers(size - part + 1) for size, part in zip(photograph.shape, shape, strict=False))
    return photograph[top : top + height, left : left + width]


@cache
def frost_photographs(folder: str, scale: float) -> list[Pixels]:
    """The photographs in a folder, sorted by name and cached: uint8 (H, W, 3) RGB."""
    files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in PHOTOGRAPHS)
    if not files:
        raise RequestError(f"frost={folder} contains no photographs ({', '.join(PHOTOGRAPHS)})")
    photographs = []
    for file in files:
        photograph = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        if photograph is None:
            raise RequestError(f"cannot read {file}; frost= must be a folder of photographs")
        photographs.append(_scaled(photograph, scale))
    return photographs


@cache
def synthetic_frost(scale: float) -> list[Pixels]:
    """Five generated substitutes for the photographs, uint8 (512, 512, 3) at scale 1: patches of ice and needles.

    Only the mean and spread of their brightness are similar to the published photographs.
    """
    return [_scaled(_synthetic(number), scale) for number in range(5)]


@cache
def _synthetic(number: int) -> Pixels:
    random, size, mean = np.random.default_rng(number), 512, 75 + 30 * number
    ice = plasma(size, 1.7, random)
    for degrees in random.uniform(0, 360, 6):
        seeds = (random.random((size, size), np.float32) > 0.994).astype(np.float32)
        ice += 3 * directional_blur(seeds, 20, 12, degrees)
    ice = mean + 35 * (ice - ice.mean()) / ice.std()
    # tinted blue
    return np.clip(ice[..., None] * np.array([0.88, 0.98, 1.05], np.float32), 0, 255).astype(np.uint8)


def _scaled(picture: Pixels, scale: float) -> Pixels:
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale)


WEATHER: dict[str, Callable[..., Pixels]] = {
    "snow": snow,
    "fog": fog,
    SYNTHETIC_FROST: partial(overlay_frost, photographs=synthetic_frost),
}


class Corruption:
    """One corruption at one severity; each image has its own random numbers."""

    def __init__(self, request: Corruptions, name: str, severity: int):
        self.request, self.name, self.severity = request, name, severity
        if name == "frost":
            frost_photographs(request.frost or "", 1.0)

    def __call__(self, pixels: Pixels, index: int) -> Pixels:
        """Corrupt the image uint8 (H, W, 3) with that index."""
        seed = derived_seed(self.request.seed, "corruption", self.name, self.severity, index)
        return corrupt(pixels, self.name, self.severity, np.random.default_rng(seed), self.request.frost)
