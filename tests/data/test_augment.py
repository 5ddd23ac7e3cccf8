"""Augmentation against torchvision's own, image by image and in distribution."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from roadmap.config.compose import compose
from roadmap.data.augment import BatchAugment, RandAugment, RandomErasing, random_boxes
from roadmap.schema.recipe import RandAugmentRecipe

ENHANCED = compose(["recipe=enhanced", "data=imagenet", "data.root=x"]).recipe.augment
OFF = ENHANCED.replace(
    crop_scale=(1.0, 1.0),
    crop_aspect=(1.0, 1.0),
    horizontal_flip=0.0,
    randaugment=None,
    mixup=None,
    cutmix=None,
    random_erasing=0.0,
)
PHOTO = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)


def photos(count: int, size: int = 48) -> Tensor:
    """Different crops of a photograph, uint8 (count, 3, size, size)."""
    places = [(7 * i % (426 - size), 13 * i % (639 - size)) for i in range(count)]
    return torch.stack([PHOTO[:, top : top + size, left : left + size] for top, left in places])


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(BatchAugment(OFF, 48)(photos(8)), photos(8))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 30)])
def test_crop_boxes_are_distributed_as_in_torchvision(height: int, width: int) -> None:
    torch.manual_seed(0)
    count, crop = 4000, v2.RandomResizedCrop(32, ENHANCED.crop_scale, ENHANCED.crop_aspect)
    boxes = random_boxes(count, height, width, ENHANCED.crop_scale, ENHANCED.crop_aspect)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [[p[k] for k in ("top", "left", "height", "width")] for p in (crop.make_params([image]) for _ in range(count))]
    )
    ours = boxes[:4].T[boxes[4].bool()].numpy()
    assert len(ours) > 0.95 * count
    for measure in (
        lambda b: b[:, 2] * b[:, 3] / height / width,
        lambda b: np.log(b[:, 3] / b[:, 2]),
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    ):
        a, b = measure(ours), measure(theirs)
        # five standard errors of a difference of means
        assert abs(a.mean() - b.mean()) < 5 * math.sqrt(a.var() / len(a) + b.var() / len(b))
        assert a.std() == pytest.approx(b.std(), rel=0.08)


def test_crop_equals_torchvisions_resized_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same boxes through torchvision's function, enlarged so that neither smooths first."""
    torch.manual_seed(0)
    images = photos(16, size=32)
    boxes = random_boxes(16, 32, 32, (0.2, 0.6), (0.75, 1.33))
    monkeypatch.setattr("roadmap.data.augment.random_boxes", lambda *_: boxes)
    ours = BatchAugment(OFF.replace(interpolation="bilinear"), 40).crop_and_flip(images)
    for index, image in enumerate(images):
        top, left, height, width, _ = boxes[:, index].tolist()
        theirs = F.resized_crop(image, top, left, height, width, [40, 40], antialias=False)
        # inside: at a box's edge ours sees the neighbouring pixel of the image
        inside = (slice(None), slice(4, -4), slice(4, -4))
        assert (ours[index][inside].int() - theirs[inside].int()).abs().max() <= 1


def test_half_of_the_images_are_flipped() -> None:
    torch.manual_seed(0)
    images = photos(400, size=16)
    flipped = BatchAugment(OFF.replace(horizontal_flip=0.5), 16)(images)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_randaugment_draws_all_operations_with_normal_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    drawn: list[tuple[str, float]] = []
    monkeypatch.setattr(
        RandAugment,
        "_apply_image_or_video_transform",
        lambda self, image, name, magnitude, *_: drawn.append((name, magnitude)) or image,
    )
    transform, image = (
        RandAugment(RandAugmentRecipe(ops=2, probability=1.0, magnitude=9.0, magnitude_std=0.5), "bilinear"),
        PHOTO[:, :8, :8],
    )
    for _ in range(2800):
        transform(image)
    counts = Counter(name for name, _ in drawn)
    assert len(drawn) == 2800
    assert len(counts) == 14
    assert min(counts.values()) > 130, "200 expected of each"
    # brightness goes from 0 to 0.9: magnitude 9 of 10 is 0.81, a std of 0.5 is 0.045
    strengths = np.abs([magnitude for name, magnitude in drawn if name == "Brightness"])
    assert strengths.mean() == pytest.approx(0.81, abs=0.015)
    assert 0.03 < strengths.std() < 0.05


def test_randaugment_applies_operations_with_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    drawn: list[str] = []
    monkeypatch.setattr(RandAugment, "apply", lambda self, images, name, _: drawn.append(name) or images)
    for probability in (0.0, 0.5, 1.0):
        drawn.clear()
        recipe = RandAugmentRecipe(ops=2, probability=probability, magnitude=9.0, magnitude_std=0.5)
        transform = RandAugment(recipe, "bilinear")
        for _ in range(1000):
            transform(PHOTO[:, :8, :8])
        assert len(drawn) == pytest.approx(1000 * probability, abs=80)  # five standard deviations


def test_each_image_gets_two_operations_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(RandAugment, "forward", lambda self, images: sizes.append(len(images)) or images)
    augment = BatchAugment(ENHANCED, 16)
    for batch in (64, 1024):
        sizes.clear()
        augment(photos(batch, size=16))
        assert sum(sizes) == 2 * batch
        assert len(sizes) == 16, "calls do not grow with the batch"


def test_seed_determines_the_augmented_images() -> None:
    def augmented(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return BatchAugment(ENHANCED, 32)(photos(32))

    assert torch.equal(augmented(0), augmented(0))
    assert not torch.equal(augmented(0), augmented(1))
    assert augmented(0).dtype == torch.uint8
    assert augmented(0).shape == (32, 3, 32, 32)


def test_random_erasing_is_distributed_as_in_torchvision() -> None:
    torch.manual_seed(0)
    images = torch.full((2000, 3, 32, 32), 9.0)
    ours = RandomErasing(0.25)(images.clone())
    reference = v2.RandomErasing(0.25, value="random")
    theirs = torch.stack([reference(image) for image in images])
    shares = []
    for erased in (ours, theirs):
        changed = (erased != 9.0).all(1).float().mean((1, 2))
        shares.append(changed[changed > 0])
        assert len(shares[-1]) / 2000 == pytest.approx(0.25, abs=0.05)
        noise = erased[erased != 9.0]
        assert noise.mean().item() == pytest.approx(0, abs=0.01)
        assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert shares[0].mean().item() == pytest.approx(shares[1].mean().item(), abs=0.017)
    assert shares[0].std().item() == pytest.approx(shares[1].std().item(), rel=0.17)
