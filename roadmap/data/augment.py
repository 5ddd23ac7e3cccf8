"""Augmentation of training images on their device: crop, flip, RandAugment, erasing.

Everything random but the noise of erased boxes is drawn on the CPU for a whole epoch, image by image in the epoch's
order. So it depends neither on micro batches nor on processes nor on a resume. What is done with it has static shapes
and does not synchronise with the host.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from roadmap.data import randaugment
from roadmap.data.randaugment_batch import BatchRandAugment, Chosen, Rounds, rounds_of, stages, truncate
from roadmap.schema.recipe import AugmentRecipe

TRIES = 10  # for a box that fits, as in torchvision
DRAWN_AT_ONCE = 2**16  # images

# for n images: int64 (n, 2, 2), matrix of ``resize_weights`` and first column for rows and columns; then Rounds
Drawn = tuple[Tensor, ...]


class BatchAugment:
    """Random resized crop, flip and RandAugment: uint8 (n, 3, H, W) to float32 (n, 3, S, S) of whole values of 0..255.

    Crops are Pillow's, as in torchvision and timm: antialiased, within one level. ``mean`` is the data's, 0..1.
    """

    def __init__(
        self,
        recipe: AugmentRecipe,
        image_size: int,
        source_size: tuple[int, int],
        mean: tuple[float, ...],
        device: torch.device,
    ):
        self.recipe, self.size, self.source_size = recipe, image_size, source_size
        self.longest = max(source_size)
        weights = resize_weights(self.longest, image_size, recipe.interpolation).to(device)
        # by matrix and first column
        self.windows = weights.unfold(2, self.longest, 1).transpose(1, 2)
        self.half = torch.tensor(0.5, device=device)
        self.randaugment: BatchRandAugment | None = None
        if recipe.randaugment is not None:
            geometry = randaugment.geometry(recipe.randaugment, recipe.interpolation, mean)
            self.randaugment = BatchRandAugment(image_size, *geometry, device)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Drawn, np.ndarray]:
        """Draw for ``count`` images, on the CPU; also which stages change them, see ``randaugment_batch.stages``."""
        height, width = self.source_size
        recipe, (low, high) = self.recipe, self.recipe.crop_aspect
        top, left, rows, columns, found = random_boxes(count, height, width, recipe.crop_scale, (low, high), generator)
        fits = found.bool()
        # where no box fits, the largest of an allowed aspect in the centre
        rows = torch.where(fits, rows, min(height, round(width / low)))
        columns = torch.where(fits, columns, min(width, round(height * high)))
        top, left = torch.where(fits, top, (height - rows) // 2), torch.where(fits, left, (width - columns) // 2)
        mirrored = torch.rand(count, generator=generator) < recipe.horizontal_flip
        matrices = torch.stack([rows, columns + mirrored * (self.longest + 1)])
        crops = torch.stack([matrices, self.longest - torch.stack([top, left])], -1).transpose(0, 1).contiguous()
        if recipe.randaugment is None:
            return (crops,), np.empty((count, 0, 4), bool)
        operations, arguments = randaugment.draw(recipe.randaugment, count, self.size, generator)
        assert self.randaugment is not None
        return (crops, *rounds_of(operations, arguments, self.size, self.randaugment.colour)), stages(operations)

    def __call__(self, images: Tensor, drawn: Drawn, chosen: Chosen | None = None) -> Tensor:
        """Augment; with ``chosen``, RandAugment computes these images only, with the same result."""
        crops, *rounds = drawn
        images = self.crop_and_flip(images, crops)
        if self.randaugment is None:
            return truncate(images).contiguous()
        return self.randaugment(images, Rounds(*rounds), chosen)

    def crop_and_flip(self, images: Tensor, crops: Tensor) -> Tensor:
        """Resize each image's columns, then its rows, in one product with a matrix of weights each.

        0.5 is added, so that halves are rounded up, as in Pillow; values are yet to be truncated.
        """
        count, _, height, width = images.shape
        matrices, first = crops.unbind(2)
        weights = self.windows[matrices, first]
        rows, columns = weights[:, 0, :, :height], weights[:, 1, :, :width]
        lines = images.float().view(count, 3 * height, width).transpose(1, 2)
        lines = truncate(torch.baddbmm(self.half, columns, lines)).view(count, self.size * 3, height)
        resized = torch.baddbmm(self.half, lines, rows.transpose(1, 2))
        return resized.view(count, self.size, 3, self.size).permute(0, 2, 3, 1)


@cache
def resize_weights(longest: int, size: int, interpolation: str) -> Tensor:
    """The matrices that resize n pixels to ``size``, n = 0..``longest``, then those that mirror too.

    float32 (2 · (longest + 1), size, 2 · longest): n weights from column ``longest`` on, 0 elsewhere, so that a part
    of the columns places a crop in an image. The kernels are Pillow's.
    """
    weights = np.zeros((2, longest + 1, size, 2 * longest))
    for pixels in range(1, longest + 1):
        scale = pixels / size
        centres = (np.arange(size)[:, None] + 0.5) * scale - 0.5
        distances = np.abs(np.arange(pixels) - centres) / max(scale, 1)
        kernel = cubic(distances) if interpolation == "bicubic" else np.clip(1 - distances, 0, None)
        weights[0, pixels, :, longest : longest + pixels] = kernel / kernel.sum(1, keepdims=True)
    weights[1] = weights[0, :, ::-1]
    return torch.from_numpy(weights.reshape(-1, size, 2 * longest)).float()


def cubic(distance: np.ndarray) -> np.ndarray:
    """The bicubic kernel of Pillow's resizing (a = -0.5)."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


class RandomErasing:
    """Random erasing (arXiv:1708.04896) with normal noise per pixel, of normalised float (n, C, ``size``, ``size``).

    With ``probability``, an image loses a box of 2 to 33 % of its area and aspect 0.3 to 3.3.
    """

    def __init__(self, probability: float, size: int, device: torch.device):
        self.probability, self.size = probability, size
        self.pixels = torch.arange(size, dtype=torch.float32, device=device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw boxes: first and last row, first and last column: float32 (count, 2, 2), -1 for none."""
        if not self.probability:
            return torch.full((count, 2, 2), -1.0)
        boxes = random_boxes(count, self.size, self.size, (0.02, 0.33), (0.3, 3.3), generator, strictly_inside=True)
        first, length = boxes[:2].T, boxes[2:4].T
        erased = (torch.rand(count, generator=generator) < self.probability) & boxes[4].bool()
        return torch.where(erased[:, None, None], torch.stack([first, first + length - 1], -1), -1.0)

    def __call__(self, images: Tensor, boxes: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Erase; with ``chosen``, known on the host, these images only, in place, with the same result."""
        if not self.probability:
            return images
        if chosen is None:
            # not in place, which torch.compile refuses for a view
            return images.masked_scatter(self.mask(boxes), torch.randn(images.shape, device=images.device))
        if len(chosen):
            part, boxes = images.index_select(0, chosen), boxes.index_select(0, chosen)
            pixels = images.shape[1] * int((boxes[:, :, 1] - boxes[:, :, 0] + 1).prod(1).sum())
            # the first values of those for the whole batch; torch draws 16 at once
            noise = torch.randn(-(-pixels // 16) * 16, device=images.device)
            images.index_copy_(0, chosen, part.masked_scatter_(self.mask(boxes), noise))
        return images

    def mask(self, boxes: Tensor) -> Tensor:
        """Whether a pixel is erased: bool (n, 1, size, size)."""
        first, last = boxes.split(1, -1)
        rows, columns = (torch.clamp(self.pixels, first, last) == self.pixels).unbind(1)
        return rows[:, None, :, None] & columns[:, None, None]


def random_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    generator: torch.Generator | None = None,
    *,
    strictly_inside: bool = False,
) -> Tensor:
    """Top, left, height and width of boxes in images of height x width, and whether one of 10 tries fitted: (5, count).

    As in torchvision, with uniform area and log-uniform aspect.
    """
    parts = []
    for number in range(0, count, DRAWN_AT_ONCE):  # for less memory
        part = min(DRAWN_AT_ONCE, count - number)
        area = height * width * torch.empty(part, TRIES).uniform_(*scale, generator=generator)
        ratio = torch.empty(part, TRIES).uniform_(math.log(aspect[0]), math.log(aspect[1]), generator=generator).exp_()
        sides = torch.stack([area / ratio, area * ratio]).sqrt_().round_().long()
        limits = torch.tensor([height, width]).view(2, 1, 1) - int(strictly_inside)
        fits = ((sides > 0) & (sides <= limits)).all(0)
        first = fits.int().argmax(1, keepdim=True)
        box = sides.gather(2, first.expand(2, part, 1))[..., 0]
        spare = torch.tensor([[height], [width]]) - box + 1
        place = (torch.rand(2, part, generator=generator) * spare).long()
        parts.append(torch.cat([place, box, fits.any(1).long()[None]]))
    return torch.cat(parts, 1)
