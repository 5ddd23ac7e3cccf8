"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of training images, with torchvision's arithmetic."""

import numpy as np
import torch
from torch import Tensor

from roadmap.schema.recipe import AugmentRecipe

# of n groups: the rows with something of the partner, bool (n, H), how much of their columns it is, float (n, W), and
# the image's own share and the partner's, float (n, 2)
Drawn = tuple[Tensor, Tensor, Tensor]


class Mixing:
    """Mixes each group of ``group`` consecutive images among themselves, every image with the one before it.

    A group gets either MixUp or CutMix, as likely if the recipe has both.
    """

    def __init__(self, recipe: AugmentRecipe, group: int, num_classes: int, image_size: int):
        self.alphas = recipe.mixup, recipe.cutmix
        self.group, self.num_classes, self.size = group, num_classes, image_size

    def draw(self, groups: int, seed: int) -> Drawn:
        """Draw for ``groups`` groups, on the CPU."""
        random, (mixup, cutmix) = np.random.default_rng(seed), self.alphas
        cut = random.random(groups) < (cutmix is not None) / ((mixup is not None) + (cutmix is not None))
        kept = np.where(cut, *(random.beta(alpha or 1, alpha or 1, groups) for alpha in (cutmix, mixup)))
        # of the box, cut off at the image's edges
        half = (0.5 * np.sqrt(1 - kept) * self.size).astype(int)
        centres, pixels = random.integers(self.size, size=(2, groups, 1)), np.arange(self.size)
        inside = (pixels >= centres - half[:, None]) & (pixels < centres + half[:, None])
        rows, columns = inside | ~cut[:, None]
        strength = np.where(cut, 1.0, 1 - kept)
        share = (strength * rows.mean(1) * columns.mean(1)).astype(np.float32)
        return (
            torch.from_numpy(rows),
            torch.from_numpy((columns * strength[:, None]).astype(np.float32)),
            torch.from_numpy(np.stack([1 - share, share], 1)),
        )

    def __call__(self, images: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Mix float images (n, C, H, W), whose memory format stays, and labels (n,), which become (n, num_classes).

        ``drawn`` has one entry for each group of these images.
        """
        rows, columns, shares = drawn
        weights = rows[:, :, None] * columns[:, None, :]
        groups = (len(shares), self.group)
        if images.is_contiguous(memory_format=torch.channels_last):
            grouped = images.permute(0, 2, 3, 1).unflatten(0, groups)
            mixed = torch.lerp(grouped, grouped.roll(1, 1), weights[:, None, :, :, None])
            images = mixed.flatten(0, 1).permute(0, 3, 1, 2)
        else:
            grouped = images.unflatten(0, groups)
            images = torch.lerp(grouped, grouped.roll(1, 1), weights[:, None, None]).flatten(0, 1)
        own = labels.view(groups)
        pairs = torch.stack([own, own.roll(1, 1)], 2)
        targets = shares.new_zeros(*groups, self.num_classes).scatter_add_(2, pairs, shares[:, None].expand_as(pairs))
        return images, targets.flatten(0, 1)
