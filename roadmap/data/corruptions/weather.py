"""Snow, frost and fog of ImageNet-C and CIFAR-10-C, and ``corrupt``, which knows every corruption by its name."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from roadmap.data.corruptions.filters import (
    DISTORTIONS,
    Random,
    Values,
    as_pixels,
    as_values,
    constants,
    in_motion,
    of_imagenet,
    zoomed,
)
from roadmap.data.randaugment import Pixels
from roadmap.errors import RequestError
from roadmap.schema.corruptions import SYNTHETIC_FROST, Corruptions
from roadmap.seeds import derived_seed

PHOTOGRAPHS = (".jpg", ".jpeg", ".png")
CIFAR_FROST = 0.2  # of the photographs' size, in CIFAR-10-C
GREY = np.array([0.299, 0.587, 0.114], np.float32)


def corrupt(pixels: Pixels, name: str, severity: int, random: Random, frost: str | None = None) -> Pixels:
    """An image uint8 (H, W, 3) corrupted; ``frost`` is the folder of photographs that this corruption wants.

    Raises RequestError where that folder holds none.
    """
    # the drawn frost is mixed in as the photographed one is
    published = constants("frost" if name == SYNTHETIC_FROST else name, severity, pixels)
    if name == "frost":
        assert frost is not None
        return frosted(pixels, random, *published, photographs=partial(frost_photographs, frost))
    return (WEATHER.get(name) or DISTORTIONS[name])(pixels, random, *published)


def snow(pixels: Pixels, random: Random, *constants: float) -> Pixels:
    mean, deviation, zoom, least, radius, spread, kept = constants
    values = as_values(pixels)
    flakes = zoomed(mean + deviation * random.standard_normal(pixels.shape[:2], np.float32), zoom)
    flakes[flakes < least] = 0
    falling = in_motion(as_pixels(flakes).astype(np.float32), int(radius), spread, random.uniform(-135, -45))
    layer = np.clip(np.round(falling), 0, 255)[..., None] / 255
    whitened = np.maximum(values, (values @ GREY)[..., None] * 1.5 + 0.5)
    return as_pixels(kept * values + (1 - kept) * whitened + layer + layer[::-1, ::-1])


def fog(pixels: Pixels, random: Random, thickness: float, fading: float) -> Pixels:
    values = as_values(pixels)
    brightest = values.max()
    height, width = pixels.shape[:2]
    clouds = plasma(1 << (max(height, width) - 1).bit_length(), fading, random)[:height, :width, None]
    return as_pixels((values + thickness * clouds) * brightest / (brightest + thickness))


def plasma(size: int, fading: float, random: Random) -> Values:
    """Clouds by the diamond-square algorithm on a torus: (size, size), 0 to 1; ``size`` is a power of two.

    The random part of each finer grid is ``fading`` times smaller.
    """
    heights = np.zeros((size, size))
    step, noise = size, 100.0

    def filled(around: Values) -> Values:
        return around / 4 + noise * random.uniform(-noise, noise, around.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = filled(pairs + np.roll(pairs, -1, 1))
        centres = heights[half::step, half::step]
        above = centres + np.roll(centres, 1, 0)
        heights[::step, half::step] = filled(above + corners + np.roll(corners, -1, 1))
        beside = centres + np.roll(centres, 1, 1)
        heights[half::step, ::step] = filled(beside + corners + np.roll(corners, -1, 0))
        step, noise = half, noise / fading
    heights -= heights.min()
    return (heights / heights.max()).astype(np.float32)


def frosted(
    pixels: Pixels, random: Random, kept: float, strength: float, *, photographs: Callable[[float], list[Pixels]]
) -> Pixels:
    """A random part of one of the photographs of frost, which CIFAR-10-C has shrunk, laid over the image."""
    choice = photographs(1.0 if of_imagenet(pixels) else CIFAR_FROST)
    frost = part_of(choice[random.integers(len(choice))], pixels.shape[:2], random)
    return np.clip(kept * pixels.astype(np.float32) + strength * frost, 0, 255).astype(np.uint8)


def part_of(photograph: Pixels, shape: tuple[int, int], random: Random) -> Pixels:
    """A random part of a photograph, enlarged first where it is smaller than the part."""
    height, width = shape
    larger = max(height / photograph.shape[0], width / photograph.shape[1])
    if larger > 1:
        photograph = cv2.resize(photograph, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    top, left = (random.integers(has - wants + 1) for has, wants in zip(photograph.shape, shape, strict=False))
    return photograph[top : top + height, left : left + width]


@cache
def frost_photographs(folder: str, scale: float) -> list[Pixels]:
    """The photographs of a folder in the order of their names, uint8 (H, W, 3) RGB, kept for every image to come."""
    files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in PHOTOGRAPHS)
    if not files:
        raise RequestError(f"frost={folder} holds no photographs; it wants {', '.join(PHOTOGRAPHS)} files")
    photographs = []
    for file in files:
        photograph = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        if photograph is None:
            raise RequestError(f"cannot read {file}; frost= wants a folder of photographs")
        photographs.append(_scaled(photograph, scale))
    return photographs


@cache
def drawn_frost(scale: float) -> list[Pixels]:
    """Five pictures drawn in the place of the photographs, uint8 (512, 512, 3) at scale 1: patches of ice and needles.

    Their mean and spread of brightness are about those of the published photographs; nothing else of them is.
    """
    return [_scaled(_drawn(number), scale) for number in range(5)]


@cache
def _drawn(number: int) -> Pixels:
    random, size, mean = np.random.default_rng(number), 512, 75 + 30 * number
    ice = plasma(size, 1.7, random)
    for degrees in random.uniform(0, 360, 6):
        seeds = (random.random((size, size), np.float32) > 0.994).astype(np.float32)
        ice += 3 * in_motion(seeds, 20, 12, degrees)
    ice = mean + 35 * (ice - ice.mean()) / ice.std()
    # a cold white
    return np.clip(ice[..., None] * np.array([0.88, 0.98, 1.05], np.float32), 0, 255).astype(np.uint8)


def _scaled(picture: Pixels, scale: float) -> Pixels:
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale)


WEATHER: dict[str, Callable[..., Pixels]] = {
    "snow": snow,
    "fog": fog,
    SYNTHETIC_FROST: partial(frosted, photographs=drawn_frost),
}


class Corrupting:
    """One corruption at one severity of many images, each with random numbers of its own."""

    def __init__(self, request: Corruptions, name: str, severity: int):
        self.request, self.name, self.severity = request, name, severity
        if name == "frost":
            frost_photographs(request.frost or "", 1.0)

    def __call__(self, pixels: Pixels, number: int) -> Pixels:
        """The image of that number, uint8 (H, W, 3)."""
        seed = derived_seed(self.request.seed, "corruption", self.name, self.severity, number)
        return corrupt(pixels, self.name, self.severity, np.random.default_rng(seed), self.request.frost)
