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
    # float32 (n, rounds, 9): Equalize's least step; a blend's factor, inside and on the border; 1 for Color; Contrast's
    # number of pixels, infinite for others; 1 for Sharpness; RGB that a moved image is blended to, so that there is
    # colour where it does not reach, plus 0.5 but for Color: what an image is blended to is rounded down
    values: Tensor
    # float32 (n, rounds, 2, 3): source (x, y) of the first pixel, its change per column and per row
    maps: Tensor


def rounds_of(operations: Tensor, arguments: Tensor, size: int, fill: Sequence[float]) -> Rounds:
    """The parameters of operations and arguments (n, rounds) as ``randaugment.draw`` returns them.

    ``fill`` is the RGB colour from outside the image on a scale of 0..255.
    """
    chosen = {name: operations == place for place, name in enumerate(OPERATIONS)}
    argument = arguments.double()

    def any_of(*names: str) -> Tensor:
        return torch.stack([chosen[name] for name in names]).any(0)

    def where(*names: str, otherwise: float = 0.0) -> Tensor:
        return torch.where(any_of(*names), argument, otherwise)

    rows = torch.zeros_like(operations)
    rows[chosen["Invert"]] = SOLARIZE
    for name, row in (("Posterize", POSTERIZE), ("Solarize", SOLARIZE), ("SolarizeAdd", SOLARIZE_ADD)):
        rows = torch.where(chosen[name], row + where(name).ceil().long(), rows)
    least_step = torch.where(chosen["Equalize"], 1.0, math.inf).double()
    moved = any_of(*MOVED)
    factor = torch.where(moved, 0.0, where(*BLENDED, otherwise=1.0))
    border = torch.where(chosen["Sharpness"], 1.0, factor)
    pixels = torch.where(chosen["Contrast"], size * size, math.inf).double()
    flags = chosen["Color"].double(), pixels, chosen["Sharpness"].double()
    colour = (moved * float(value) + 0.5 * ~chosen["Color"] for value in fill)
    radians = where("Rotate").deg2rad()
    cos, sin = radians.cos(), radians.sin()
    # rotation is about the centre, shearing about the corner
    columns, rows_ = torch.stack([cos, sin + where("ShearY")], -1), torch.stack([where("ShearX") - sin, cos], -1)
    start = torch.stack([where("TranslateX"), where("TranslateY")], -1)
    start = start + size / 2 * torch.stack([1 - cos + sin, 1 - cos - sin], -1) + (columns + rows_) / 2 - 0.5
    start = torch.where(moved[..., None], start, -2.0 * size)  # no pixel of the others comes from inside
    return Rounds(
        torch.stack([rows, chosen["AutoContrast"].long()], -1),
        torch.stack([least_step, factor, border, *flags, *colour], -1).float(),
        torch.stack([start, columns, rows_], -1).float(),
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
        self.size, self.bicubic, self.colour = size, interpolation == "bicubic", fill
        self.value_tables = value_tables().to(device)

        def constant(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.fill = constant(fill).view(3, 1, 1)
        self.zero, self.half, self.one = constant(0), constant(0.5), constant(1)
        # Pillow's grey is rounded to 16 bits; sums are exact in float32
        self.grey = constant([[19595, 38470, 7471]]) / 65536
        self.each_pixel = torch.ones(size * size, device=device)
        near = (torch.arange(size)[:, None] - torch.arange(size)).abs() <= 1
        self.neighbours, self.smooth = near.float().to(device), near.float().to(device) / 13
        self.border = nn_functional.pad(torch.zeros(size - 2, size - 2, device=device), (1, 1, 1, 1), value=1).bool()
        columns = torch.arange(size, dtype=torch.float32, device=device).expand(size, size)
        self.places_of_maps = torch.stack([torch.ones_like(columns), columns, columns.T]).flatten(1)
        # Pillow's pixels reach from -0.5 to below +0.5
        self.last = float(np.nextafter(np.float32(size - 0.5), np.float32(0)))
        self.before = torch.ones(256, 256, device=device).triu(1)
        # of ``resample``: values of the pixels -1..size, then their slopes, whose signs alternate
        knots = torch.arange(-1, size + 1, device=device)
        before, value, after = (self.one.expand(size).diag()[(knots + by).clamp(0, size - 1)] for by in (-1, 0, 1))
        self.knots = torch.cat([value, (after - before) * (1 - knots % 2 * 2)[:, None]])
        self.rounding = torch.zeros(2 * len(knots), 2 * len(knots), device=device)
        self.rounding[: len(knots), : len(knots)] = ROUNDING
        # place on the knots of values, and of slopes, on grid_sample's scale, where 2 is the distance of first and last
        self.per_pixel = 2 / (2 * len(knots) - 1)
        self.first = constant([(1 + first) * self.per_pixel - 1 for first in (0, len(knots))]).view(2, 1, 1, 1)
        self.twice, self.minus_one = constant([[2, 0], [-1, 0]]).view(2, 2, 1, 1, 1)

    def __call__(self, images: Tensor, rounds: Rounds, chosen: Chosen | None = None) -> Tensor:
        """float32 (n, 3, S, S), of which only whole values of 0..255 are used, to the same rounded down.

        With ``chosen`` each stage computes only these images, in place: for a CPU, with the same result.
        """
        count = len(images)
        # of all rounds at once
        if chosen is None:
            places = [part.unflatten(0, (count, -1)).unbind(1) for part in self.places(rounds.maps.flatten(0, 1))]
        else:
            images = truncate(images).contiguous()
            maps = torch.cat([rounds.maps[moved, i] for i, (*_, moved) in enumerate(chosen)])
            places = [part.split([len(moved) for *_, moved in chosen]) for part in self.places(maps)]
        for i, place in enumerate(zip(*places, strict=True)):
            tables, values = rounds.tables[:, i], rounds.values[:, i]
            if chosen is None:
                images = self.look_up(images.clamp(0, 255), tables, values)
                images = self.resample(images, self.blend(images, values), *place)
            else:
                by_content, fixed, blended, moved = chosen[i]
                replace(images, by_content, self.look_up, tables[by_content], values[by_content])
                replace(images, fixed, self.look_up_fixed, tables[fixed])
                replace(images, blended, self.blend, values[blended])
                replace(images, moved, self.resample, self.fill, *place)
        return truncate(images) if chosen is None else images

    def look_up(self, images: Tensor, tables: Tensor, values: Tensor) -> Tensor:
        """Replace each channel's values, rounded down, by those of its table."""
        row, by_range = tables.unsqueeze(1).unbind(2)
        levels = images.to(torch.int64, memory_format=torch.contiguous_format).flatten(2)
        zeros, ones = self.zero.expand(len(images), 3, 256), self.one.expand(levels.shape)
        counts = zeros.scatter_add(2, levels, ones)
        lowest, highest = levels.aminmax(dim=2)
        below = counts @ self.before
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
        """Mix with black, grey, the mean grey, a smoothed image or a colour."""
        factor, border, color, pixels, sharpness = values[:, 1:6, None, None, None].unbind(1)
        grey = torch.baddbmm(self.half, self.grey.expand(len(images), 1, 3), images.flatten(2))
        total = torch.mv(grey.floor().flatten(1), self.each_pixel).view(-1, 1, 1, 1)
        # Pillow's SMOOTH is (sum of 3x3 + 4·centre) / 13, rounded; it leaves the border
        sums, smooth = images @ self.neighbours, self.smooth.expand(3 * len(images), -1, -1)
        smooth = torch.baddbmm(images.flatten(0, 1), smooth, sums.flatten(0, 1), beta=4 / 13).view_as(images)
        degenerate = torch.addcdiv(values[:, 6:, None, None], total, pixels)
        degenerate = torch.addcmul(degenerate, grey.unflatten(2, self.border.shape), color)
        degenerate = degenerate.addcmul_(smooth, sharpness).floor_()
        # two operators, each rounded, as Pillow does
        return (images - degenerate).mul_(torch.where(self.border, border, factor)).add_(degenerate)

    def places(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Where the pixels of images with ``maps`` (m, 2, 3) come from, as ``resample`` needs it."""
        place = (maps.flatten(0, 1) @ self.places_of_maps).view(-1, 2, self.size, self.size)
        x_inside, y_inside = (place.clamp(-0.5, self.last) == place).split(1, 1)
        inside = x_inside.logical_and_(y_inside)
        if not self.bicubic:
            return inside, place.mul_(2 / self.size).add_(1 / self.size - 1).permute(0, 2, 3, 1)
        # from the nearest even pixel
        signed = torch.sub(place, (place / 2).round_(), alpha=2)
        distance = signed.abs()
        bump = torch.addcmul(signed, signed, distance, value=-1)
        step = torch.addcmul(self.minus_one, distance[:, None], self.twice)
        places = torch.addcmul(place[:, None], bump[:, None], step)
        places = torch.add(self.first, places, alpha=self.per_pixel)
        x, y = places[:, None, :, 0], places[:, :, None, 1]
        return inside, torch.stack(torch.broadcast_tensors(x, y), -1).flatten(1, 3), bump

    def resample(
        self, images: Tensor, outside: Tensor, inside: Tensor, grid: Tensor, bump: Tensor | None = None
    ) -> Tensor:
        """The pixels at ``places``; those of ``outside`` where these are not inside the image.

        Pillow's bicubic kernel (a = -1) is, in each direction, a bilinear look-up at 3d² - 2d³ instead of the distance
        d between two pixels, plus d(1 - d) times a bilinear look-up of slopes whose signs alternate.
        """
        if bump is None:
            sampled = nn_functional.grid_sample(images + ROUNDING, grid, padding_mode="border", align_corners=False)
            return torch.where(inside, sampled, outside)
        rows = (images @ self.knots.T).flatten(0, 1)
        knots = torch.baddbmm(self.rounding, self.knots.expand(len(rows), -1, -1), rows).unflatten(0, (-1, 3))
        sampled = nn_functional.grid_sample(knots, grid, padding_mode="border", align_corners=True)
        value, x_slope, y_slope, xy_slope = sampled.unflatten(2, (4, -1)).unbind(2)
        x, y = bump.split(1, 1)
        value = torch.addcmul(value, x, x_slope).addcmul_(y, torch.addcmul(y_slope, x, xy_slope))
        return torch.where(inside, value, outside)


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
