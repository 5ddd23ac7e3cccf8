"""RandAugment's draw of operations and strengths, against timm's and torchvision's own."""

import random
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2_contingency, ks_2samp
from sklearn.datasets import load_sample_image
from timm.data import auto_augment
from timm.data.auto_augment import AugmentOp, rand_augment_transform
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data.image import operations
from roadmap.data.randaugment import NONE, OPERATIONS, draw, draw_one, geometry
from roadmap.schema.recipe import RandAugmentRecipe

RECIPE = compose(["recipe=enhanced", "data=imagenet", "data.root=x"]).recipe.augment.randaugment
SIZE = 224


MEAN = (0.485, 0.456, 0.406)
FILL = (124, 116, 104)
# of different sizes, one without the ends of the scale, for AutoContrast, and one with large areas of one value
PHOTOS = {
    "china": Image.fromarray(load_sample_image("china.jpg")).crop((100, 50, 324, 274)).point(lambda v: 20 + v * 0.8),
    "flower": Image.fromarray(load_sample_image("flower.jpg")).crop((180, 60, 480, 260)).point(lambda v: v // 32 * 36),
    "small": Image.fromarray(load_sample_image("china.jpg")).resize((32, 32)),
}


def timms_operation(place: int) -> AugmentOp:
    assert RECIPE is not None
    options = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    return rand_augment_transform("rand-m9-mstd0.5-inc1", options).ops[place]


def timms_arguments(op: AugmentOp, magnitude: float, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of both signs, where the operation has two."""
    arguments = []
    for uniform in (0.0, 1.0):
        monkeypatch.setattr(auto_augment.random, "random", lambda value=uniform: value)
        (argument,) = op.level_fn(magnitude, op.hparams) if op.level_fn else (0.0,)
        arguments.append(float(argument) * (SIZE if op.name.endswith("Rel") else 1))
    return sorted(set(arguments))


def timms_image(op: AugmentOp, image: Image.Image, argument: float) -> np.ndarray:
    """The image after timm's operation, which Pillow 13 refuses for Posterize with no bit left."""
    if op.name == "PosterizeIncreasing" and argument == 0:
        return np.array(image.point(lambda value: value & ~(2**8 - 1)))
    if op.name.endswith("Rel"):
        argument /= image.width if op.name == "TranslateXRel" else image.height
    whole = op.name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd")
    arguments = () if op.level_fn is None else (int(argument) if whole else argument,)
    return np.array(op.aug_fn(image, *arguments, **op.kwargs))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_at_each_strength_is_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RECIPE is not None
    place = OPERATIONS.index(name)
    op = timms_operation(place)
    ours = operations(*geometry(RECIPE, "bicubic", MEAN))[place]
    moved = name == "Rotate" or name.startswith(("Shear", "Translate"))
    for magnitude in (0, 0.4, 2.5, 5, 7.3, 9, 10):
        wanted = timms_arguments(op, magnitude, monkeypatch)
        recipe = RECIPE.replace(magnitude=magnitude, magnitude_std=0.0, probability=1.0, ops=1)
        drawn, arguments = our_draws(recipe, 2000)
        assert np.unique(arguments[drawn == place]) == pytest.approx(wanted, abs=1e-5)
        for photo, image in PHOTOS.items():
            for argument in wanted:
                pixels = ours(np.array(image), float(np.float32(argument)))
                difference = np.abs(pixels.astype(int) - timms_image(op, image, argument))
                # Pillow truncates doubles, we float32
                assert difference.max() <= moved, (photo, argument)
                assert (difference > 0).mean() < 0.005, (photo, argument)


def timms_draws(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Operations and arguments (images, 2) that timm's own transform draws, with recorders for its operations."""
    transform = rand_augment_transform("rand-m9-mstd0.5-inc1")
    drawn: list[tuple[int, float]] = []

    def recording(place: int, op: AugmentOp) -> Callable[[None], None]:
        assert op.name.startswith(OPERATIONS[place])
        side = SIZE if op.name.endswith("Rel") else 1
        op.aug_fn = lambda _, argument=0.0, **options: drawn.append((place, side * argument))

        def recorded(image: None) -> None:
            before = len(drawn)
            op(image)
            if len(drawn) == before:
                drawn.append((NONE, 0.0))

        return recorded

    assert len(transform.ops) == len(OPERATIONS)
    transform.ops = [recording(place, op) for place, op in enumerate(transform.ops)]
    random.seed(0)
    np.random.seed(0)
    for _ in range(images):
        transform(None)
    operations, arguments = zip(*drawn, strict=True)
    return np.array(operations).reshape(-1, 2), np.array(arguments).reshape(-1, 2)


def our_draws(recipe: RandAugmentRecipe | None, images: int) -> tuple[np.ndarray, np.ndarray]:
    assert recipe is not None
    operations, arguments = draw(recipe, images, SIZE, torch.Generator().manual_seed(0))
    return operations.numpy(), arguments.numpy()


def test_100_000_operations_and_strengths_are_distributed_as_timms() -> None:
    theirs, their_arguments = timms_draws(50_000)
    ours, our_arguments = our_draws(RECIPE, 50_000)
    # pairs of operations, none being one of 16: with replacement, and independent of each other
    pairs = [np.bincount(16 * (drawn[:, 0] + 1) + drawn[:, 1] + 1, minlength=256) for drawn in (ours, theirs)]
    assert chi2_contingency(pairs).pvalue > 0.01
    for place, name in enumerate(OPERATIONS):
        mine, other = our_arguments[ours == place], their_arguments[theirs == place]
        assert ks_2samp(mine, other.astype(np.float32)).pvalue > 0.001, name
        # a test of distributions hardly sees the ends, which the clipped magnitudes reach
        assert (mine.min(), mine.max()) == pytest.approx((other.min(), other.max()), rel=0.15), name


def test_torchvisions_strengths() -> None:
    """Without noise, a magnitude of 7 is torchvision's seventieth of a hundred steps."""
    recipe = RandAugmentRecipe(ops=1, probability=1.0, magnitude=7, magnitude_std=0, operations="torchvision")
    operations, arguments = our_draws(recipe, 2000)
    space = v2.RandAugment._AUGMENTATION_SPACE
    assert (operations == NONE).mean() == pytest.approx(1 / len(space), abs=0.03)  # Identity
    for name, (strengths, signed) in space.items():
        if name == "Identity":
            continue
        found = set(arguments[operations == OPERATIONS.index(name)].tolist())
        table = strengths(101, SIZE, SIZE)
        strength = 0.0 if table is None else float(table[70])
        if name in ("Color", "Contrast", "Brightness", "Sharpness"):
            wanted = {1 + strength, 1 - strength}
        elif name == "Solarize":
            wanted = {255 * strength}
        else:
            # PIL images are moved by whole pixels
            strength = float(int(strength)) if name.startswith("Translate") else strength
            wanted = {strength, -strength} if signed else {strength}
        assert sorted(found) == pytest.approx(sorted(wanted)), name


@pytest.mark.parametrize("chosen", ["timm", "torchvision"])
def test_one_image_is_drawn_as_many_are(chosen: Literal["timm", "torchvision"]) -> None:
    assert RECIPE is not None
    recipe = RECIPE.replace(operations=chosen)
    for seed in range(500):
        torch.manual_seed(seed)
        places, arguments = draw(recipe, 1, SIZE)
        torch.manual_seed(seed)
        drawn = draw_one(recipe, SIZE)
        applied = places[0] != NONE
        assert [place for place, _ in drawn] == places[0][applied].tolist()
        assert [argument for _, argument in drawn] == pytest.approx(arguments[0][applied].tolist())


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_operations_are_applied_with_probability(probability: float) -> None:
    assert RECIPE is not None
    operations, _ = our_draws(RECIPE.replace(probability=probability), 10_000)
    assert (operations != NONE).mean() == pytest.approx(probability, abs=0.02)
