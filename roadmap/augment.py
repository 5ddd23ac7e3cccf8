"""What happens to training images, from a recipe's numbers, with torchvision's parts wherever it has them.

Random numbers come from torch's global generators alone, which the trainer and the loaders seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2

from roadmap.recipe import AugmentRecipe, RandAugmentRecipe

STRENGTHS = 101  # steps of RandAugment's scale, a tenth of a magnitude each
GROUPS = 8  # of images that share a draw of RandAugment
TRIES = 10  # for a box that fits, as torchvision has it


class RandAugment(v2.RandAugment):
    """torchvision's, of one op, its strength drawn anew each time: N(magnitude, std) on a scale of 0 to 10.

    Magnitude 9 is nine tenths of each op's range, as in the code behind the paper. In torchvision alone the scale has
    31 steps, and 9 is three tenths.
    """

    def __init__(self, recipe: RandAugmentRecipe, interpolation: str):
        super().__init__(1, num_magnitude_bins=STRENGTHS, interpolation=v2.InterpolationMode(interpolation))
        self.mean, self.std = recipe.magnitude, recipe.magnitude_std

    def forward(self, *inputs: Any) -> Any:
        drawn = self.mean + self.std * torch.randn(()).item()
        self.magnitude = round(min(max(drawn / 10, 0), 1) * (STRENGTHS - 1))
        return super().forward(*inputs)


def image_transform(recipe: AugmentRecipe, image_size: int) -> v2.Compose:
    """A PIL image as it is trained on: uint8 (3, image_size, image_size), not yet normalised or erased."""
    interpolation = v2.InterpolationMode(recipe.interpolation)
    steps: list[Callable[..., Any]] = [
        v2.RandomResizedCrop(image_size, recipe.crop_scale, recipe.crop_aspect, interpolation),
        v2.RandomHorizontalFlip(recipe.horizontal_flip),
    ]
    if recipe.randaugment is not None:
        steps += [RandAugment(recipe.randaugment, "bilinear") for _ in range(recipe.randaugment.ops)]
    return v2.Compose([*steps, v2.PILToTensor()])


def evaluation_transform(image_size: int, crop_ratio: float, interpolation: str) -> v2.Compose:
    """A PIL image as it is evaluated: shorter side to image_size / crop_ratio, centre crop, uint8."""
    resize = v2.Resize(round(image_size / crop_ratio), v2.InterpolationMode(interpolation))
    return v2.Compose([resize, v2.CenterCrop(image_size), v2.PILToTensor()])


class BatchAugment:
    """``image_transform`` for batches on their device: uint8 (N, 3, H, W) -> uint8 (N, 3, S, S), no per-image Python.

    Each image has a crop and a flip of its own. For each op of RandAugment the batch is dealt anew into at most 8
    groups, and the images of a group share a draw: the odds of each image are RandAugment's. Resizing does not
    smooth first (no antialias), so images should not be much larger than ``image_size``.
    """

    def __init__(self, recipe: AugmentRecipe, image_size: int):
        self.recipe, self.size = recipe, image_size
        ops = 0 if recipe.randaugment is None else recipe.randaugment.ops
        self.ops = [RandAugment(recipe.randaugment, "bilinear") for _ in range(ops) if recipe.randaugment]

    def __call__(self, images: Tensor) -> Tensor:
        images = self.crop_and_flip(images)
        for op in self.ops:
            augmented = torch.empty_like(images)
            for group in torch.randperm(len(images), device=images.device).chunk(min(GROUPS, len(images) // 4 or 1)):
                augmented[group] = op(images[group])
            images = augmented
        return images

    def crop_and_flip(self, images: Tensor) -> Tensor:
        """Random resized crop and horizontal flip, one box an image, in one call of grid_sample."""
        height, width = images.shape[-2:]
        box = random_boxes(images, self.recipe.crop_scale, self.recipe.crop_aspect)
        # where no try fits, torchvision takes the largest centre crop of an allowed aspect
        low, high = self.recipe.crop_aspect
        whole_width, whole_height = min(width, round(height * high)), min(height, round(width / low))
        box_height = torch.where(box.found, box.height, whole_height)
        box_width = torch.where(box.found, box.width, whole_width)
        top = torch.where(box.found, box.top, (height - whole_height) // 2)
        left = torch.where(box.found, box.left, (width - whole_width) // 2)

        mirrored = torch.rand(len(images), device=images.device) < self.recipe.horizontal_flip
        theta = torch.zeros(len(images), 2, 3, device=images.device)
        theta[:, 0, 0] = torch.where(mirrored, -1.0, 1.0) * box_width / width
        theta[:, 1, 1] = box_height / height
        theta[:, 0, 2] = (2 * left + box_width) / width - 1
        theta[:, 1, 2] = (2 * top + box_height) / height - 1
        grid = nn_functional.affine_grid(theta, [len(images), 3, self.size, self.size], align_corners=False)
        mode = self.recipe.interpolation
        sampled = nn_functional.grid_sample(images.float(), grid, mode, padding_mode="border", align_corners=False)
        return sampled.round_().clamp_(0, 255).to(torch.uint8)


class RandomErasing:
    """RandomErasing (arXiv:1708.04896) with per-pixel noise, a box an image, in place on normalised float (N, C, H, W).

    A share of ``probability`` of the images loses a box of 2 to 33 % of its area, of aspect 0.3 to 3.3.
    """

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, images: Tensor) -> Tensor:
        # noise is dear, so it is drawn for the chosen images only
        chosen = (torch.rand(len(images), device=images.device) < self.probability).nonzero()[:, 0]
        height, width = images.shape[-2:]
        box = random_boxes(images[chosen], (0.02, 0.33), (0.3, 3.3), strictly_inside=True)
        rows = torch.arange(height, device=images.device) - box.top[:, None]
        columns = torch.arange(width, device=images.device) - box.left[:, None]
        in_rows = (rows >= 0) & (rows < box.height[:, None]) & box.found[:, None]
        in_columns = (columns >= 0) & (columns < box.width[:, None])
        erased = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        noise = torch.randn(len(chosen), *images.shape[1:], device=images.device)
        images[chosen] = torch.where(erased, noise, images[chosen])
        return images


@dataclass(frozen=True)
class Boxes:
    """A box an image, in whole pixels, each field (N,); ``found`` is False where none of the tries fitted."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    found: Tensor


def random_boxes(
    images: Tensor, scale: tuple[float, float], aspect: tuple[float, float], *, strictly_inside: bool = False
) -> Boxes:
    """Boxes as torchvision draws them: a share of the area, log-uniform aspect (width / height), up to 10 tries."""
    (height, width), draws = images.shape[-2:], (len(images), TRIES)
    area = height * width * torch.empty(draws, device=images.device).uniform_(*scale)
    ratio = torch.empty(draws, device=images.device).uniform_(math.log(aspect[0]), math.log(aspect[1])).exp()
    widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (heights > 0) & (widths <= width - strictly_inside) & (heights <= height - strictly_inside)
    first = fits.int().argmax(1, keepdim=True)
    box_width, box_height = widths.gather(1, first)[:, 0], heights.gather(1, first)[:, 0]
    place = torch.rand(2, len(images), device=images.device)
    top = (place[0] * (height - box_height + 1)).long()
    left = (place[1] * (width - box_width + 1)).long()
    return Boxes(top, left, box_height, box_width, fits.any(1))


def mixer(recipe: AugmentRecipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """MixUp and CutMix taking turns at even odds, whichever the recipe has: labels (N,) become (N, num_classes)."""
    mixes: list[v2.Transform] = []
    if recipe.mixup is not None:
        mixes.append(v2.MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix is not None:
        mixes.append(v2.CutMix(alpha=recipe.cutmix, num_classes=num_classes))
    return v2.RandomChoice(mixes) if mixes else lambda images, labels: (images, labels)
