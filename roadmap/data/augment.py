"""Data augmentation of training batches, built on torchvision.

All random numbers come from torch's global generators, which the trainer and the loaders seed.
"""

import math
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2

from roadmap.schema.recipe import AugmentRecipe, RandAugmentRecipe

STRENGTHS = 101  # steps of RandAugment's scale, 0.1 each
GROUPS = 8  # of images that share one RandAugment draw
TRIES = 10  # for a box that fits, as in torchvision


class RandAugment(v2.RandAugment):
    """Applies one of torchvision's 14 operations with a probability and strength N(magnitude, std) on a scale of 0..10.

    As in timm, which the paper used, magnitude 9 is 90 % of an operation's range and operations are skipped at random.
    In torchvision every operation is applied, and 9 of 31 steps is 30 % of the range.
    """

    def __init__(self, recipe: RandAugmentRecipe, interpolation: str):
        super().__init__(1, interpolation=v2.InterpolationMode(interpolation))
        self.recipe = recipe

    @classmethod
    def ops_of(cls, recipe: AugmentRecipe) -> list[Self]:
        """The operations applied to each image, in order."""
        drawn = recipe.randaugment
        return [] if drawn is None else [cls(drawn, "bilinear") for _ in range(drawn.ops)]

    def forward(self, images: Tensor) -> Tensor:
        """Augment uint8 (..., 3, H, W); a batch shares one draw."""
        if torch.rand(()) >= self.recipe.probability:
            return images
        name, (table, signed) = self._get_random_item(self._AUGMENTATION_SPACE)
        drawn = self.recipe.magnitude + self.recipe.magnitude_std * torch.randn(()).item()
        strengths = table(STRENGTHS, *images.shape[-2:])
        magnitude = 0.0
        if strengths is not None:
            magnitude = strengths[round(min(max(drawn / 10, 0), 1) * (STRENGTHS - 1))].item()
        if signed and torch.rand(()) < 0.5:
            magnitude = -magnitude
        return self.apply(images, name, magnitude)

    def apply(self, images: Tensor, name: str, magnitude: float) -> Tensor:
        """Apply the operation that torchvision calls ``name``."""
        return self._apply_image_or_video_transform(images, name, magnitude, self.interpolation, self._fill)


class BatchAugment:
    """Random resized crop, flip and RandAugment of a batch on its device: uint8 (N, 3, H, W) to uint8 (N, 3, S, S).

    Crops and flips are drawn per image. For each RandAugment operation the batch is split at random into at most 8
    groups that share a draw, which does not change the distribution of a single image. Resizing has no antialiasing, so
    images should not be much larger than ``image_size``.
    """

    def __init__(self, recipe: AugmentRecipe, image_size: int):
        self.recipe, self.size = recipe, image_size
        self.ops = RandAugment.ops_of(recipe)

    def __call__(self, images: Tensor) -> Tensor:
        images = self.crop_and_flip(images)
        for op in self.ops:
            augmented = torch.empty_like(images)
            for group in torch.randperm(len(images), device=images.device).chunk(min(GROUPS, len(images) // 4 or 1)):
                augmented[group] = op(images[group])
            images = augmented
        return images

    def crop_and_flip(self, images: Tensor) -> Tensor:
        """Random resized crop and horizontal flip, one box per image, in one call of grid_sample."""
        count, (height, width) = len(images), images.shape[-2:]
        low, high = self.recipe.crop_aspect
        top, left, box_height, box_width, found = random_boxes(
            count, height, width, self.recipe.crop_scale, (low, high)
        )
        found = found.bool()
        # where no box fits, the largest of an allowed aspect in the centre
        box_height = torch.where(found, box_height, min(height, round(width / low)))
        box_width = torch.where(found, box_width, min(width, round(height * high)))
        top, left = (
            torch.where(found, place, (whole - part) // 2)
            for place, whole, part in ((top, height, box_height), (left, width, box_width))
        )
        mirrored = torch.rand(count) < self.recipe.horizontal_flip
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0] = torch.where(mirrored, -1.0, 1.0) * box_width / width
        theta[:, 1, 1] = box_height / height
        theta[:, 0, 2] = (2 * left + box_width) / width - 1
        theta[:, 1, 2] = (2 * top + box_height) / height - 1
        theta = theta.to(images.device)
        grid = nn_functional.affine_grid(theta, [count, 3, self.size, self.size], align_corners=False)
        mode = self.recipe.interpolation
        sampled = nn_functional.grid_sample(images.float(), grid, mode, padding_mode="border", align_corners=False)
        return sampled.round_().clamp_(0, 255).to(torch.uint8)


class RandomErasing:
    """Random erasing (arXiv:1708.04896) with per-pixel noise, in place on normalised float (N, C, H, W).

    With ``probability``, an image loses a box of 2 to 33 % of its area and aspect 0.3 to 3.3.
    """

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, images: Tensor) -> Tensor:
        chosen = (torch.rand(len(images)) < self.probability).nonzero()[:, 0].tolist()
        channels, height, width = images.shape[1:]
        boxes = random_boxes(len(chosen), height, width, (0.02, 0.33), (0.3, 3.3), strictly_inside=True)
        # noise is expensive: draw it only for the boxes
        for image, top, left, box_height, box_width, found in zip(chosen, *boxes.tolist(), strict=True):
            if found:
                noise = torch.randn(channels, box_height, box_width, device=images.device)
                images[image, :, top : top + box_height, left : left + box_width] = noise
        return images


def random_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    *,
    strictly_inside: bool = False,
) -> Tensor:
    """Top, left, height and width of boxes in images of height x width, and whether one of 10 tries fitted: (5, count).

    As in torchvision, with uniform area and log-uniform aspect. Drawn on the CPU: equal for every device, and without a
    GPU synchronisation.
    """
    area = height * width * torch.empty(count, TRIES).uniform_(*scale)
    ratio = torch.empty(count, TRIES).uniform_(math.log(aspect[0]), math.log(aspect[1])).exp()
    widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (heights > 0) & (widths <= width - strictly_inside) & (heights <= height - strictly_inside)
    first = fits.int().argmax(1, keepdim=True)
    box_width, box_height = widths.gather(1, first)[:, 0], heights.gather(1, first)[:, 0]
    place = torch.rand(2, count)
    top = (place[0] * (height - box_height + 1)).long()
    left = (place[1] * (width - box_width + 1)).long()
    return torch.stack([top, left, box_height, box_width, fits.any(1).long()])
