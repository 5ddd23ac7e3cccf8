"""RandAugment of a batch, each image with operations of its own, in kernels of static shapes without synchronisation.

A round passes the batch through three stages: ``look_up`` replaces values, ``blend`` mixes with a degenerate image, and
``resample`` moves pixels. An image's operation acts in one stage; the others do not change the image, bit for bit.
The arithmetic of values is Pillow's, pixel for pixel; resampled values are within one level of Pillow's.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nn_functional

from roadmap.data.randaugment import OPERATIONS

BY_CONTENT = ("AutoContrast", "Equalize")
FIXED = ("Invert", "Posterize", "Solarize", "SolarizeAdd")
BLENDED = ("Color", "Contrast", "Brightness", "Sharpness")
MOVED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
KINDS = (BY_CONTENT, FIXED, BLENDED, MOVED)
# rows of ``value_tables`` after AutoContrast's 256·lowest + highest value; row 0 changes nothing
POSTERIZE = 256 * 256  # + bits kept
SOLARIZE = POSTERIZE + 9  # + least value that is inverted
SOLARIZE_ADD = SOLARIZE + 257  # + value added
ROUNDING = 1e-3  # added to resampled values before they are truncated, above the error of float32

# positions in the batch of the images that a kind of operation changes, for each round and kind; known on the host
Chosen = list[list[Tensor]]


class Rounds(NamedTuple):
    """The parameters of each image's rounds."""

    tables: Tensor  # int64 (n, rounds, 2): row of ``value_tables``; 1 if 256·lowest + highest value is added to it
    values: Tensor  # float32 (n, rounds, 5): Equalize's least step; a blend's factor; 1 for Color, Contrast, Sharpness
    moved: Tensor  # bool (n, rounds): whether an image is resampled
    maps: Tensor  # float32 (n, rounds, 3, 2): source (x, y) of the first pixel; its change per column and per row


def rounds_of(operations: Tensor, arguments: Tensor, size: int) -> Rounds:
    """The parameters of operations and arguments (n, rounds) as ``randaugment.draw`` returns them."""
    chosen = {name: operations == place for place, name in enumerate(OPERATIONS)}
    argument = arguments.double()

    def where(*names: str, otherwise: float = 0.0) -> Tensor:
        return torch.where(torch.stack([chosen[name] for name in names]).any(0), argument, otherwise)

    rows = torch.zeros_like(operations)
    rows[chosen["Invert"]] = SOLARIZE
    for name, row in (("Posterize", POSTERIZE), ("Solarize", SOLARIZE), ("SolarizeAdd", SOLARIZE_ADD)):
        rows = torch.where(chosen[name], row + where(name).ceil().long(), rows)
    least_step = torch.where(chosen["Equalize"], 1.0, math.inf).double()
    flags = (chosen[name].double() for name in ("Color", "Contrast", "Sharpness"))
    radians = where("Rotate").deg2rad()
    cos, sin = radians.cos(), radians.sin()
    # rotation is about the centre, shearing about the corner
    columns, rows_ = torch.stack([cos, sin + where("ShearY")], -1), torch.stack([where("ShearX") - sin, cos], -1)
    start = torch.stack([where("TranslateX"), where("TranslateY")], -1)
    start = start + size / 2 * torch.stack([1 - cos + sin, 1 - cos - sin], -1) + (columns + rows_) / 2 - 0.5
    return Rounds(
        torch.stack([rows, chosen["AutoContrast"].long()], -1),
        torch.stack([least_step, where(*BLENDED, otherwise=1.0), *flags], -1).float(),
        torch.from_numpy(stages(operations)[..., 3]),
        torch.stack([start, columns, rows_], -2).float(),
    )


def stages(operations: Tensor) -> np.ndarray:
    """Which kind of operation changes each image, in the order of ``KINDS``: bool (n, rounds, 4)."""
    places = [torch.tensor([OPERATIONS.index(name) for name in kind]) for kind in KINDS]
    return torch.stack([torch.isin(operations, place) for place in places], -1).numpy()


def chosen_of(stages: np.ndarray) -> Chosen:
    """The positions of the images that each kind of operation changes in each round."""
    return [[torch.from_numpy(np.flatnonzero(stage)) for stage in of_round.T] for of_round in stages.swapaxes(0, 1)]


class BatchRandAugment:
    """Applies rounds to square images of ``size`` pixels on ``device``.

    ``interpolation`` and ``fill``, the colour from outside the image on a scale of 0..255, are those of
    ``randaugment.geometry``.
    """

    def __init__(self, size: int, interpolation: str, fill: Sequence[float], device: torch.device):
        self.size, self.bicubic = size, interpolation == "bicubic"
        self.value_tables = value_tables().to(device)

        def constant(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.fill = constant(fill).view(3, 1, 1)
        self.zero, self.half, self.one = constant(0), constant(0.5), constant(1)
        # Pillow's grey is rounded to 16 bits; sums are exact in float32
        self.grey = constant([19595, 38470, 7471]).view(3, 1, 1) / 65536
        self.grey_rounding = constant([0.5, 0, 0]).view(3, 1, 1)
        self.pixels = torch.arange(size, dtype=torch.float32, device=device)
        sign = torch.arange(-1, size + 1, device=device) % 2 * -2.0 + 1  # of the knots of ``resample``
        even = torch.ones_like(sign)
        self.signs = torch.stack([torch.outer(y, x) for y in (even, sign) for x in (even, sign)]).unsqueeze(1)

    def __call__(self, images: Tensor, rounds: Rounds, chosen: Chosen | None = None) -> Tensor:
        """float32 (n, 3, S, S) with whole values of 0..255 to the same.

        With ``chosen`` each stage computes only these images, in place: for a CPU, with the same result.
        """
        count = len(images)
        if chosen is None:
            maps, counts = rounds.maps.transpose(0, 1).flatten(0, 1), [count] * rounds.maps.shape[1]
        else:
            maps = torch.cat([rounds.maps[moved, i] for i, (*_, moved) in enumerate(chosen)])
            counts = [len(moved) for *_, moved in chosen]
        places = zip(*(part.split(counts) for part in self.places(maps)), strict=True)  # of all rounds at once
        for i, place in enumerate(places):
            tables, values = rounds.tables[:, i], rounds.values[:, i]
            if chosen is None:
                changed = self.blend(self.look_up(images, tables, values), values)
                moved = rounds.moved[:, i, None, None, None]
                images = truncate(torch.where(moved, self.resample(images, *place), changed))
            else:
                by_content, fixed, blended, moved = chosen[i]
                replace(images, by_content, self.look_up, tables[by_content], values[by_content])
                replace(images, fixed, self.look_up_fixed, tables[fixed])
                replace(images, blended, self.blend, values[blended])
                replace(images, moved, self.resample, *place)
        return images

    def look_up(self, images: Tensor, tables: Tensor, values: Tensor) -> Tensor:
        """Replace each channel's values by those of its table."""
        row, by_range = tables.unsqueeze(1).unbind(2)
        levels = images.flatten(2).long()
        zeros, ones = self.zero.expand(len(images), 3, 256), self.one.expand(levels.shape)
        counts = zeros.scatter_add(2, levels, ones)
        lowest, highest = levels.aminmax(dim=2)
        below = counts.cumsum(2).sub_(counts)
        # Pillow's Equalize does not count the pixels of the highest value
        step = below.gather(2, highest.unsqueeze(2)).div_(255, rounding_mode="floor")
        equalized = torch.addcdiv(self.half, below, step)
        looked_up = self.value_tables[torch.addcmul(row, by_range, torch.add(highest, lowest, alpha=256))]
        table = torch.where(step >= values[:, 0, None, None], equalized, looked_up)
        return table.gather(2, levels).view_as(images)

    def look_up_fixed(self, images: Tensor, tables: Tensor) -> Tensor:
        """What ``look_up`` does where tables do not depend on the image."""
        table = self.value_tables[tables[:, :1]].float().expand(-1, 3, -1)
        return table.gather(2, images.flatten(2).long()).view_as(images)

    def blend(self, images: Tensor, values: Tensor) -> Tensor:
        """Mix with black, grey, the mean grey or a smoothed image."""
        factor, color, contrast, sharpness = values.view(-1, 5, 1, 1, 1).unbind(1)[1:]
        grey = torch.addcmul(self.grey_rounding, images, self.grey).sum(1, keepdim=True).floor_()
        pixels = self.size * self.size
        mean = grey.sum((2, 3), keepdim=True).add_(pixels / 2).div_(pixels, rounding_mode="floor")
        # Pillow's SMOOTH is (sum of 3x3 + 4·centre) / 13, rounded, and leaves the border
        rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
        sums = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
        smooth = images.clone()
        inner = smooth[:, :, 1:-1, 1:-1]
        inner.copy_(sums.add_(inner, alpha=4).add_(6.5).mul_(1 / 13).floor_())
        degenerate = (smooth * sharpness).addcmul_(grey, color).addcmul_(mean, contrast)
        return (images - degenerate).mul_(factor).add_(degenerate)

    def places(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Where the pixels of images with ``maps`` (m, 3, 2) come from, as ``resample`` needs it."""
        start, per_column, per_row = maps.view(-1, 3, 2, 1, 1).unbind(1)
        place = (per_column * self.pixels).add_(start) + per_row * self.pixels[:, None]
        # Pillow's pixels reach from -0.5 to below +0.5
        below = float(np.nextafter(np.float32(self.size - 0.5), np.float32(0)))
        x_inside, y_inside = (place.clamp(-0.5, below) == place).split(1, 1)
        inside = x_inside.logical_and_(y_inside)
        if not self.bicubic:
            return inside, place.mul_(2 / self.size).add_(1 / self.size - 1).permute(0, 2, 3, 1)
        knot = place.floor()
        odd = torch.sub(knot, (knot / 2).floor_(), alpha=2)
        distance = place - knot
        square = distance * distance
        bump = distance - square
        step = torch.addcmul(square, distance, bump, value=2).add_(knot)
        bump = torch.addcmul(bump, bump, odd, value=-2)
        (x, y), (x_step, y_step) = place.unbind(1), step.unbind(1)
        grid = torch.stack([x_step, y_step, x, y_step, x_step, y, x, y], 1)
        grid.mul_(2 / (self.size + 1)).add_(2 / (self.size + 1) - 1)
        return inside, grid.unflatten(1, (4, 2)).permute(0, 1, 3, 4, 2), bump

    def resample(self, images: Tensor, inside: Tensor, grid: Tensor, bump: Tensor | None = None) -> Tensor:
        """The pixels at ``places``; the colour ``fill`` outside the image.

        Pillow's bicubic kernel (a = -1) is, in each direction, a bilinear look-up at 3d² - 2d³ instead of the distance
        d between two pixels, plus d(1 - d) times a bilinear look-up of slopes whose signs alternate.
        """
        if bump is None:
            sampled = nn_functional.grid_sample(images + ROUNDING, grid, padding_mode="border", align_corners=False)
            return torch.where(inside, sampled, self.fill)
        padded = nn_functional.pad(images + ROUNDING, (2, 2, 2, 2), mode="replicate")
        upper, middle, lower = padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]
        y_slope = lower - upper
        slopes = [part[..., 2:] - part[..., :-2] for part in (middle, y_slope)]
        knots = torch.stack([middle[..., 1:-1], slopes[0], y_slope[..., 1:-1], slopes[1]], 1).mul_(self.signs)
        sampled = nn_functional.grid_sample(
            knots.flatten(0, 1), grid.flatten(0, 1), padding_mode="border", align_corners=True
        )
        value, x_slope, y_slope, xy_slope = sampled.unflatten(0, (-1, 4)).unbind(1)
        x, y = bump.split(1, 1)
        value = torch.addcmul(value, x, x_slope).addcmul_(y, torch.addcmul(y_slope, x, xy_slope))
        return torch.where(inside, value, self.fill)


def replace(images: Tensor, chosen: Tensor, stage: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Replace the chosen images by those of a stage with their ``parameters``, in place."""
    if len(chosen):
        images.index_copy_(0, chosen, truncate(stage(images.index_select(0, chosen), *parameters)))


def truncate(images: Tensor) -> Tensor:
    """Clamp to 0..255 and round down, in place."""
    return images.clamp_(0, 255).floor_()


@cache
def value_tables() -> Tensor:
    """uint8 (65931, 256): a row for each change of values that does not depend on the image but for its range."""
    levels = np.arange(256)
    tables = np.empty((SOLARIZE_ADD + 129, 256), np.uint8)
    tables[:POSTERIZE] = levels
    for lowest in range(255):
        highest = np.arange(lowest + 1, 256)
        scale = 255.0 / (highest - lowest)[:, None]
        tables[256 * lowest + highest] = np.clip(levels * scale - lowest * scale, 0, 255).astype(np.uint8)
    tables[POSTERIZE:SOLARIZE] = [levels & (0xFF00 >> bits & 0xFF) for bits in range(9)]
    tables[SOLARIZE:SOLARIZE_ADD] = [np.where(levels < least, levels, 255 - levels) for least in range(257)]
    tables[SOLARIZE_ADD:] = [np.where(levels < 128, np.minimum(levels + added, 255), levels) for added in range(129)]
    return torch.from_numpy(tables)
