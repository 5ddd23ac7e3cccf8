"""Augmentation of images in memory: against Pillow, timm and torchvision, and the same however an epoch is split."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import auto_augment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.augment import BatchAugment, RandomErasing, random_boxes
from roadmap.data.loaders import TrainLoader
from roadmap.data.randaugment import OPERATIONS
from roadmap.data.randaugment_batch import BatchRandAugment, chosen_of, rounds_of
from roadmap.runtime.distributed import World

CPU = torch.device("cpu")
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
FILL = (124, 116, 104)
# of timm, with a whole number as argument, or none
TIMM = {
    "AutoContrast": auto_augment.auto_contrast,
    "Equalize": auto_augment.equalize,
    "Invert": auto_augment.invert,
    "Rotate": auto_augment.rotate,
    "Posterize": auto_augment.posterize,
    "Solarize": auto_augment.solarize,
    "SolarizeAdd": auto_augment.solarize_add,
    "Color": auto_augment.color,
    "Contrast": auto_augment.contrast,
    "Brightness": auto_augment.brightness,
    "Sharpness": auto_augment.sharpness,
    "ShearX": auto_augment.shear_x,
    "ShearY": auto_augment.shear_y,
    "TranslateX": auto_augment.translate_x_abs,
    "TranslateY": auto_augment.translate_y_abs,
}
STRENGTHS = {
    **dict.fromkeys(["AutoContrast", "Equalize", "Invert"], np.zeros(1)),
    "Rotate": np.linspace(-30, 30, 21),
    "Posterize": np.arange(1, 9),
    "Solarize": np.arange(0, 257, 16),
    "SolarizeAdd": np.arange(0, 111, 10),
    **dict.fromkeys(["Color", "Contrast", "Brightness", "Sharpness"], np.linspace(0.1, 1.9, 19)),
    # not ±0.3, which puts centres of pixels exactly on the image's edge, to one side of it by rounding
    **dict.fromkeys(["ShearX", "ShearY"], np.linspace(-0.2993, 0.2987, 21)),
    **dict.fromkeys(["TranslateX", "TranslateY"], np.linspace(-15.5, 15.5, 25)),
}


def photos(count: int, height: int = 48, width: int | None = None) -> Tensor:
    """Different crops of a photograph, uint8 (count, 3, height, width)."""
    width = width or height
    places = [(7 * i % (426 - height), 13 * i % (639 - width)) for i in range(count)]
    return torch.stack([PHOTO[:, top : top + height, left : left + width] for top, left in places])


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).byte().numpy())


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def augmented(recipe: Any, images: Tensor, size: int, seed: int = 0) -> Tensor:
    augment = BatchAugment(recipe, size, tuple(images.shape[-2:]), (0.5, 0.5, 0.5), CPU)
    drawn, _ = augment.draw(len(images), torch.Generator().manual_seed(seed))
    return augment(images, drawn)


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(augmented(OFF, photos(8), 48), photos(8).float())


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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (36, 30, 40), (64, 64, 20)])
def test_crops_equal_pillows(interpolation: str, height: int, width: int, size: int) -> None:
    """Enlarged and, with antialiasing, reduced."""
    scale = (0.6, 1.0) if size < height else (0.2, 1.0)
    recipe = OFF.replace(
        interpolation=interpolation, crop_scale=scale, crop_aspect=ENHANCED.crop_aspect, horizontal_flip=0.5
    )
    images = photos(32, height, width)
    ours = augmented(recipe, images, size)
    boxes = random_boxes(32, height, width, scale, recipe.crop_aspect, torch.Generator().manual_seed(0))
    mirrored = 0
    for image, our, (top, left, rows, columns, found) in zip(images, ours, boxes.T.tolist(), strict=True):
        assert found
        crop = as_pillow(image).crop((left, top, left + columns, top + rows))
        theirs = as_tensor(crop.resize((size, size), Image.Resampling[interpolation.upper()])).float()
        distances = [(theirs - our).abs().max().item(), (theirs.flip(-1) - our).abs().max().item()]
        # Pillow may reduce rows and columns in another order
        assert min(distances) <= (1 if size > 30 else 2)
        mirrored += distances[1] < distances[0]
    assert 6 <= mirrored <= 26


def test_half_of_the_images_are_flipped() -> None:
    images = photos(400, 16).float()
    flipped = augmented(OFF.replace(horizontal_flip=0.5), photos(400, 16), 16)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_timms_strength_by_strength(name: str, interpolation: str) -> None:
    """Values pixel for pixel; resampled values, which Pillow computes in float64, within one level."""
    strengths = torch.tensor(np.repeat(STRENGTHS[name], -(-24 // len(STRENGTHS[name]))), dtype=torch.float32)
    images = photos(len(strengths), 36)
    operations = torch.full((len(strengths), 1), OPERATIONS.index(name))
    apply = BatchRandAugment(36, interpolation, FILL, CPU)
    ours = apply(images.float(), rounds_of(operations, strengths[:, None], 36, FILL))
    options = {"resample": Image.Resampling[interpolation.upper()], "fillcolor": FILL}
    theirs = []
    for image, strength in zip(images, strengths.tolist(), strict=True):
        whole = name in ("Posterize", "Solarize", "SolarizeAdd")
        argument = () if len(STRENGTHS[name]) == 1 else (int(strength) if whole else strength,)
        theirs.append(as_tensor(TIMM[name](as_pillow(image), *argument, **options)))
    difference = (ours - torch.stack(theirs)).abs()
    moved = name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
    assert difference.max() <= moved
    assert (difference > 0).float().mean() < 0.015  # whole numbers, which Pillow's rounding may miss by 1e-9
    if len(STRENGTHS[name]) > 1:
        assert any(not torch.equal(our, image.float()) for our, image in zip(ours, images, strict=True))


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_computing_chosen_images_equals_computing_all(name: str) -> None:
    """Also: an image's operations do not depend on the others of its batch."""
    assert ENHANCED.randaugment is not None
    recipe = ENHANCED.replace(randaugment=ENHANCED.randaugment.replace(operations=name))
    augment = BatchAugment(recipe, 32, (32, 32), (0.5, 0.4, 0.3), CPU)
    drawn, changed = augment.draw(96, torch.Generator().manual_seed(0))
    images = photos(96, 32)
    whole = augment(images, drawn)
    assert torch.equal(augment(images, drawn, chosen_of(changed)), whole)
    part = [tensor[40:47] for tensor in drawn]
    assert torch.equal(augment(images[40:47], part), whole[40:47])
    assert whole.min() >= 0
    assert whole.max() <= 255
    assert torch.equal(whole, whole.round())


def test_every_image_has_its_own_draw() -> None:
    augment = BatchAugment(ENHANCED, 16, (16, 16), (0.5, 0.5, 0.5), CPU)
    (_, _, values, maps), changed = augment.draw(256, torch.Generator().manual_seed(0))
    assert changed.shape == (256, 2, 4)
    # two rounds, each of them with probability 0.5
    assert changed.any(2).mean() == pytest.approx(0.5, abs=0.1)
    factors = values[..., 1][torch.from_numpy(changed[..., 2])].tolist()
    moved = maps[torch.from_numpy(changed[..., 3])]
    assert len(set(factors)) == len(factors) > 40
    assert len({tuple(row) for row in moved.flatten(1).tolist()}) == len(moved) > 60


def test_random_erasing_is_distributed_as_in_torchvision() -> None:
    torch.manual_seed(0)
    erase = RandomErasing(0.25, 32, CPU)
    ours = erase(torch.full((2000, 3, 32, 32), 9.0), erase.draw(2000, torch.Generator().manual_seed(0)))
    reference = v2.RandomErasing(0.25, value="random")
    theirs = torch.stack([reference(image) for image in torch.full((2000, 3, 32, 32), 9.0)])
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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_erasing_chosen_images_equals_erasing_all(memory_format: torch.memory_format) -> None:
    erase = RandomErasing(0.25, 30, CPU)
    boxes = erase.draw(64, torch.Generator().manual_seed(0))
    images = torch.zeros(64, 3, 30, 30).contiguous(memory_format=memory_format)
    erased = []
    for chosen in (None, (boxes[:, 0, 1] >= 0).nonzero()[:, 0]):
        torch.manual_seed(0)
        erased.append(erase(images.clone(), boxes, chosen))
    assert torch.equal(*erased)
    assert 0.1 < (erased[0] != 0).flatten(1).any(1).float().mean() < 0.4


def loader(*words: str, world: World | None = None) -> TrainLoader:
    request = compose(["regime=nano", "step=separate_downsampling", "data=digits", "batch_size=128", *words])
    return open_loaders(request.experiment(), CPU, world or World()).train


def test_augmentation_does_not_depend_on_micro_batches_processes_or_where_an_epoch_begins() -> None:
    """The noise of erased boxes does, on micro batches, so boxes are left out."""
    words = ("recipe.augment.random_erasing=0", "recipe.augment.mixup=null", "recipe.augment.cutmix=null")
    words = (*words, "recipe.batch_norm_images=16")
    whole = [torch.cat([images for images, _ in loader(*words, "micro_batch_size=128").batches(1)])]
    whole.append(torch.cat([images for images, _ in loader(*words, "micro_batch_size=32").batches(1)]))
    assert torch.equal(*whole)
    assert torch.equal(torch.cat([images for images, _ in loader(*words).batches(1, first_update=1)]), whole[0][128:])
    processes = [loader(*words, "micro_batch_size=32", world=World(rank, 2)).batches(1) for rank in range(2)]
    turns = [images for pair in zip(*processes, strict=True) for images, _ in pair]
    assert torch.equal(torch.cat(turns), whole[0])
    assert not torch.equal(torch.cat([images for images, _ in loader(*words).batches(2)]), whole[0])


class DeviceOnly(TorchDispatchMode):
    """Counts operators; fails at those that wait for a device or whose result's shape depends on its values."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "lift_fresh")
    VIEWS = ("view", "_unsafe_view", "select", "slice", "expand", "permute", "transpose", "unsqueeze", "unbind")

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).removeprefix("aten.")
        assert not name.startswith(self.FORBIDDEN), name
        if name.startswith("index."):
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), "a mask"
        self.calls[name] += not name.startswith((*self.VIEWS, "split"))
        return function(*args, **(kwargs or {}))


def test_input_of_an_update_is_work_of_the_device_alone() -> None:
    """The same operators for each micro batch, whatever was drawn, on its tensors and constants only."""
    train = loader()
    calls = []
    for micro_batch in islice(train.micro_batches(0), 2):
        torch.manual_seed(0)
        whole, targets = train.prepare(micro_batch.tensors, micro_batch)
        torch.manual_seed(0)
        with DeviceOnly() as mode:
            images, same_targets = train.prepare(micro_batch.tensors)
        assert torch.equal(images, whole), "what a CPU leaves out changes nothing"
        assert torch.equal(same_targets, targets)
        calls.append(mode.calls)
    assert calls[0] == calls[1]
    assert calls[0].total() <= 140


def test_dispatch_mode_finds_synchronisation() -> None:
    for wait in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x + torch.tensor([1.0])):
        with pytest.raises(AssertionError), DeviceOnly():
            wait(torch.randn(4))
