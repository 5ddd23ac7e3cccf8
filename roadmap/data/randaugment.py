"""RandAugment (arXiv:1909.13719): the operations, and the draw of operations and strengths for each image.

The `timm` set is that of its `rand-m9-mstd0.5-inc1`, with which the authors trained. `torchvision`'s is that
of its ``RandAugment``, which applies every operation at one strength, with timm's probability and noise.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from roadmap.schema.recipe import RandAugmentRecipe

# of timm, in its order; torchvision's are a part of them, and Identity
OPERATIONS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
)
NONE = -1  # no operation
EXACT, DOWN, NEAREST = math.nan, 0.0, 0.5  # added before the fraction is cut off


class Strength(NamedTuple):
    """An operation's argument at a strength of 0..1: ``start + sign · change · strength``."""

    start: float = 0.0
    change: float = 0.0  # of TranslateX and TranslateY as a fraction of the image's side
    sign: int = 1  # 0: 1 or -1 at random
    rounding: float = EXACT  # of change · strength to a whole number: DOWN or NEAREST


FACTOR = Strength(start=1.0, change=0.9, sign=0)  # 1: no change
SHARED = {
    "AutoContrast": Strength(),
    "Equalize": Strength(),
    "Rotate": Strength(change=30.0, sign=0),
    **dict.fromkeys(["Color", "Contrast", "Brightness", "Sharpness"], FACTOR),
    **dict.fromkeys(["ShearX", "ShearY"], Strength(change=0.3, sign=0)),
}
STRENGTHS: dict[str, dict[str, Strength]] = {
    "timm": {
        **SHARED,
        "Invert": Strength(),
        "Posterize": Strength(start=4, change=4, sign=-1, rounding=DOWN),
        "Solarize": Strength(start=256, change=256, sign=-1, rounding=DOWN),
        "SolarizeAdd": Strength(change=110, rounding=DOWN),
        **dict.fromkeys(["TranslateX", "TranslateY"], Strength(change=0.45, sign=0)),
    },
    "torchvision": {
        **SHARED,
        "Identity": Strength(),
        "Posterize": Strength(start=8, change=4, sign=-1, rounding=NEAREST),
        "Solarize": Strength(start=255, change=255, sign=-1),
        **dict.fromkeys(["TranslateX", "TranslateY"], Strength(change=150 / 331, sign=0, rounding=DOWN)),
    },
}


def geometry(recipe: RandAugmentRecipe, interpolation: str, mean: tuple[float, ...]) -> tuple[str, tuple[int, ...]]:
    """The resampling of geometric operations, and the RGB colour of what they move in from outside the image.

    timm's resample as ``interpolation``, the recipe's, and fill with ``mean``, the data's on a scale of 0..1.
    """
    if recipe.operations == "timm":
        return interpolation, tuple(min(255, round(255 * value)) for value in mean)
    return "bilinear", (0, 0, 0)


def draw(
    recipe: RandAugmentRecipe, count: int, image_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw the operations of ``count`` square images: int64 and float32 (count, recipe.ops), on the CPU.

    The first holds indices into ``OPERATIONS``, or -1 for none. The second holds the operations' arguments, sign
    included: bits kept (Posterize), least value that is inverted (Solarize), value added to values below 128
    (SolarizeAdd), factor, 1 for no change (Color, Contrast, Brightness, Sharpness), degrees counter-clockwise (Rotate).
    The others are those of Pillow's inverse map: the value at (x, y) comes from (x + argument · y, y) for ShearX, from
    (x + argument, y) for TranslateX.
    """
    shape = (count, recipe.ops)
    chosen, applied, negative = torch.rand(3, *shape, generator=generator, dtype=torch.float64).numpy()
    noise = torch.randn(shape, generator=generator, dtype=torch.float64).numpy()
    index, table = _tables(recipe.operations, image_size)
    chosen = (chosen * len(index)).astype(int)
    start, change, nudge = table[(negative < 0.5).astype(int), :, chosen].transpose(2, 0, 1)
    strength = np.minimum(np.maximum(recipe.magnitude + recipe.magnitude_std * noise, 0), 10) / 10
    if recipe.operations == "torchvision":
        strength = np.rint(100 * strength) / 100  # torchvision's strengths have steps
    changed = change * strength
    whole = np.trunc(changed + nudge)
    arguments = start + np.where(np.isnan(whole), changed, whole)
    operations = np.where(applied < recipe.probability, index[chosen], NONE)
    return torch.from_numpy(operations), torch.from_numpy(arguments.astype(np.float32))


def draw_one(recipe: RandAugmentRecipe, image_size: int) -> list[tuple[int, float]]:
    """Draw what is applied to an image, as ``draw`` does from torch's own generator, in a third of the time."""
    numbers = torch.rand(3, 1, recipe.ops, dtype=torch.float64)[:, 0].tolist()
    noises = torch.randn((1, recipe.ops), dtype=torch.float64)[0].tolist()
    index, table = _lists(recipe.operations, image_size)
    operations = []
    for chosen, applied, negative, noise in zip(*numbers, noises, strict=True):
        place = int(chosen * len(index))
        if applied >= recipe.probability or index[place] == NONE:
            continue
        strength = min(max(recipe.magnitude + recipe.magnitude_std * noise, 0), 10) / 10
        if recipe.operations == "torchvision":
            strength = round(100 * strength) / 100
        start, change, nudge = (row[place] for row in table[negative < 0.5])
        changed = change * strength
        operations.append((index[place], start + (changed if math.isnan(nudge) else math.trunc(changed + nudge))))
    return operations


@cache
def _lists(operations: str, image_size: int) -> tuple[list[int], list[list[list[float]]]]:
    index, table = _tables(operations, image_size)
    return index.tolist(), table.tolist()


@cache
def _tables(operations: str, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Index in ``OPERATIONS`` of each operation; its start, signed change and rounding for both signs: (2, 3, n)."""
    strengths = STRENGTHS[operations]
    index = [OPERATIONS.index(name) if name in OPERATIONS else NONE for name in strengths]
    start, change, sign, rounding = np.array(list(strengths.values())).T
    change *= [image_size if name.startswith("Translate") else 1 for name in strengths]
    signs = np.stack([np.where(sign == 0, side, sign) for side in (1, -1)])
    shape = signs.shape
    return np.array(index), np.stack([np.broadcast_to(start, shape), signs * change, signs * rounding], 1)
