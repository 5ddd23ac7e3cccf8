"""Training recipes as records; the values, and the tables of the paper they come from, are in ``conf/recipe/``."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import (
    BelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Record,
    Share,
)


class NetworkRecipe(Record):
    """What a recipe asks of the network itself: where its weights start and how residual branches are regularised."""

    weight_init: Literal["kaiming", "trunc_normal"]
    layer_scale: float | None  # initial value; null: none
    stochastic_depth: BelowOne  # drop rate of the last block
    head_init_scale: PositiveFloat  # multiplies the classifier's initial weights and biases


class OptimizerRecipe(Record):
    """SGD reads ``momentum``, AdamW reads ``betas``; the learning rate is absolute, never scaled by the batch."""

    name: Literal["sgd", "adamw"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    decay: Literal["all", "matrices"]  # matrices: not on vectors (biases, norms, layer scale)
    layer_decay: Share | None  # each layer's share of the learning rate of the one above it; null: one rate for all
    layer_group: PositiveInt  # blocks that make a layer of layer_decay
    momentum: BelowOne = 0.0
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)


class ScheduleRecipe(Record):
    """How the learning rate moves over ``epochs``; another number of epochs stretches or shrinks the whole of it."""

    name: Literal["step", "cosine"]
    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat = 0.0  # linear, from 0
    step_epochs: PositiveFloat = 1.0  # step: the rate is multiplied by step_factor this often
    step_factor: float = 1.0
    min_lr: float = 0.0  # cosine: where it ends

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise RequestError(
                f"recipe.schedule.warmup_epochs must be at most recipe.schedule.epochs={self.epochs} "
                f"(got {self.warmup_epochs:g})"
            )


class RandAugmentRecipe(Record):
    """RandAugment (arXiv:1909.13719): ``ops`` an image, each with a probability.

    Their strength is on a scale of 0 to 10, spread by a normal.
    """

    ops: NonNegativeInt
    probability: Probability  # of each op
    magnitude: Annotated[float, Meta(ge=0, le=10)]
    magnitude_std: NonNegativeFloat


class AugmentRecipe(Record):
    """What happens to a training batch; MixUp and CutMix take turns, one of them in each batch."""

    crop_scale: tuple[Share, Share]  # random resized crop: share of the image's area
    crop_aspect: tuple[PositiveFloat, PositiveFloat]
    horizontal_flip: Probability
    interpolation: Literal["bilinear", "bicubic"]  # in evaluation too
    randaugment: RandAugmentRecipe | None
    mixup: PositiveFloat | None  # alpha
    cutmix: PositiveFloat | None  # alpha
    random_erasing: Probability

    def __post_init__(self) -> None:
        for name, (low, high) in (("crop_scale", self.crop_scale), ("crop_aspect", self.crop_aspect)):
            if high < low:
                raise RequestError(f"recipe.augment.{name} must be [least, most] (got [{low:g}, {high:g}])")


class Recipe(Record):
    """A whole training recipe; arXiv:2201.03545, section 2.1 and Tables 5 and 6."""

    place: ClassVar[str] = "recipe"

    name: str
    batch_size: PositiveInt  # of one update, over all devices and accumulation steps
    image_size: PositiveInt  # the regime's, unless the recipe is for another
    optimizer: OptimizerRecipe
    schedule: ScheduleRecipe
    augment: AugmentRecipe
    network: NetworkRecipe
    label_smoothing: BelowOne
    ema_decay: BelowOne | None  # per update; null: no averaged weights
    eval_crop_ratio: Share  # share of the resized image's side that the centre crop keeps
