"""MixUp and CutMix against torchvision's, for equal and for drawn parameters."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.mixing import Drawn, Mixing
from roadmap.runtime.distributed import World
from roadmap.schema.recipe import AugmentRecipe

CPU = torch.device("cpu")
RECIPE = compose(["recipe=enhanced", "data=imagenet", "data.root=x"]).recipe.augment
MIXUP, CUTMIX = RECIPE.replace(mixup=0.8, cutmix=None), RECIPE.replace(mixup=None, cutmix=1.0)
GROUP, CLASSES, SIZE = 4, 10, 24


def batch(groups: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(groups * GROUP, 3, SIZE, SIZE), torch.randint(CLASSES, (groups * GROUP,))


def drawn_by(recipe: AugmentRecipe, groups: int, size: int = SIZE) -> tuple[Mixing, Drawn]:
    mix = Mixing(recipe, GROUP, CLASSES, size)
    return mix, mix.draw(groups, seed=3)


def box(drawn: Drawn, group: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the partner's part of a group's images."""
    places = [torch.nonzero(part[group]).flatten() for part in (drawn[1], drawn[0])]
    (left, right), (top, bottom) = ((int(p[0]), int(p[-1]) + 1) if len(p) else (0, 0) for p in places)
    return left, top, right, bottom


@pytest.mark.parametrize("kind", [v2.MixUp, v2.CutMix])
def test_each_group_is_mixed_as_a_batch_of_torchvision(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = 50
    mix, drawn = drawn_by(MIXUP if kind is v2.MixUp else CUTMIX, groups)
    images, labels = batch(groups)
    mixed, targets = mix(images, labels, drawn)
    theirs = kind(num_classes=CLASSES)
    for group in range(groups):
        kept = drawn[2][group, 0].item()
        params: dict[str, Any] = {"lam": kept} if kind is v2.MixUp else {"box": box(drawn, group), "lam_adjusted": kept}
        monkeypatch.setattr(theirs, "make_params", lambda _, params=params: params)
        part = slice(group * GROUP, (group + 1) * GROUP)
        by_hand, soft = theirs(images[part], labels[part])
        torch.testing.assert_close(mixed[part], by_hand)
        torch.testing.assert_close(targets[part], soft)


def test_lambda_and_boxes_are_distributed_as_in_torchvision() -> None:
    """Means within five standard errors, quartiles within five percentage points."""
    count, image = 4000, torch.empty(3, SIZE, SIZE)
    torch.manual_seed(1)

    def same(ours: Any, theirs: Any) -> None:
        a, b = np.asarray(ours, float), np.asarray(theirs, float)
        assert abs(a.mean() - b.mean()) < 5 * np.sqrt((a.var() + b.var()) / count)
        for quartile in np.quantile(b, (0.25, 0.5, 0.75)):
            assert abs((a <= quartile).mean() - (b <= quartile).mean()) < 0.05

    mixup, cutmix = v2.MixUp(alpha=0.8, num_classes=CLASSES), v2.CutMix(alpha=1.0, num_classes=CLASSES)
    same(drawn_by(MIXUP, count)[1][2][:, 0], [mixup.make_params([image])["lam"] for _ in range(count)])
    _, drawn = drawn_by(CUTMIX, count)
    theirs = [cutmix.make_params([image]) for _ in range(count)]
    same(drawn[2][:, 0], [params["lam_adjusted"] for params in theirs])
    boxes = np.array([box(drawn, group) for group in range(count)])
    filled = (drawn[2][:, 1] > 0).numpy()
    for side in range(4):
        same(boxes[filled, side], [p["box"][side] for p in theirs if p["lam_adjusted"] < 1])


def test_either_is_drawn_half_of_the_time() -> None:
    """CutMix takes whole pixels of the partner, MixUp a part of all."""
    _, (rows, columns, _) = drawn_by(RECIPE, 4000)
    mixed_up = rows.all(1) & (columns == columns[:, :1]).all(1) & (columns[:, 0] < 1)
    assert mixed_up.float().mean().item() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_is_kept(memory_format: torch.memory_format) -> None:
    mix, drawn = drawn_by(RECIPE, 8)
    images, labels = batch(8)
    mixed, _ = mix(images.to(memory_format=memory_format), labels, drawn)
    assert mixed.is_contiguous(memory_format=memory_format)
    assert torch.equal(mixed, mix(images, labels, drawn)[0])


def test_mixing_does_not_ask_for_values() -> None:
    """Tensors of the meta device have none: what waits for a device to read them, or mixes devices, is an error."""
    mix, drawn = drawn_by(RECIPE, 8)
    rows, columns, shares = (part.to("meta") for part in drawn)
    images, labels = (part.to("meta") for part in batch(8))
    mixed, targets = mix(images, labels, (rows, columns, shares))
    assert (mixed.shape, targets.shape) == (images.shape, (32, CLASSES))


def test_groups_are_mixed_alike_however_the_batch_is_split() -> None:
    """In each epoch otherwise."""
    plain = ["recipe=enhanced", "recipe.augment.randaugment=null", "recipe.augment.random_erasing=0", "batch_size=32"]
    plain += ["recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.crop_aspect=[1.0,1.0]"]
    plain += ["recipe.batch_norm_images=8", "step=separate_downsampling"]

    def images(micro: int, epoch: int = 0, first_update: int = 0) -> list[Tensor]:
        experiment = compose([*plain, f"micro_batch_size={micro}"]).experiment()
        processes = [open_loaders(experiment, CPU, World(rank, 32 // micro)) for rank in range(32 // micro)]
        updates = zip(*(loaders.train.batches(epoch, first_update) for loaders in processes), strict=True)
        update = list(updates)[4 - first_update]
        return [torch.cat(parts) for parts in zip(*update, strict=True)]

    whole, soft = images(32)
    assert soft.shape == (32, 10)
    for found in (images(16), images(8), images(16, first_update=3)):
        assert torch.equal(found[0], whole)
        assert torch.equal(found[1], soft)
    assert not torch.equal(images(32, epoch=1)[1], soft)
