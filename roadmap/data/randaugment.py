"""RandAugment (arXiv:1909.13719): the operations, and the draw of operations and strengths for each image.

The `timm` set is that of its `rand-m9-mstd0.5-inc1`, with which the authors trained. `torchvision`'s is that
of its ``RandAugment``, which applies every operation at one strength, with timm's probability and noise.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from roadmap.schema.recipe import RandAugmentRecipe

# of timm, in its order; torchvision's are a part of them, and Identity
OPERATIONS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
)
NONE = -1  # no operation
EXACT, DOWN, NEAREST = -1.0, 0.0, 0.5  # the latter are added before rounding down


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
    index, table = _tables(recipe.operations, image_size)
    shape = (count, recipe.ops)
    drawn = torch.randint(len(index), shape, generator=generator)
    applied = torch.rand(shape, generator=generator) < recipe.probability
    signs = torch.where(torch.rand(shape, generator=generator) < 0.5, -1, 1)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)

    strength = (recipe.magnitude + recipe.magnitude_std * noise).clamp(0, 10) / 10
    if recipe.operations == "torchvision":
        strength = (100 * strength).round() / 100  # torchvision's strengths have steps
    start, change, sign, rounding = table[:, drawn]
    changed = change * strength
    changed = torch.where(rounding == EXACT, changed, (changed + rounding).floor())
    argument = start + torch.where(sign == 0, signs, sign) * changed
    return torch.where(applied, index[drawn], NONE), argument.float()


@cache
def _tables(operations: str, image_size: int) -> tuple[Tensor, Tensor]:
    """Each operation's index in ``OPERATIONS``, and a row of ``Strength`` each: (4, number)."""
    strengths = STRENGTHS[operations]
    index = [OPERATIONS.index(name) if name in OPERATIONS else NONE for name in strengths]
    table = torch.tensor(list(strengths.values()), dtype=torch.float64).T.contiguous()
    table[1] *= torch.tensor([image_size if name.startswith("Translate") else 1 for name in strengths])
    return torch.tensor(index), table
