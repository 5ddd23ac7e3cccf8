"""RandAugment's draw of operations and strengths, against timm's and torchvision's own."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, ks_2samp
from timm.data.auto_augment import AugmentOp, rand_augment_transform
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data.randaugment import NONE, OPERATIONS, draw
from roadmap.schema.recipe import RandAugmentRecipe

RECIPE = compose(["recipe=enhanced", "data=imagenet", "data.root=x"]).recipe.augment.randaugment
SIZE = 224


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
        assert (mine.min(), mine.max()) == pytest.approx((other.min(), other.max()), rel=0.05), name


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


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_operations_are_applied_with_probability(probability: float) -> None:
    assert RECIPE is not None
    operations, _ = our_draws(RECIPE.replace(probability=probability), 10_000)
    assert (operations != NONE).mean() == pytest.approx(probability, abs=0.02)
