"""Records of training recipes; ``conf/recipe/`` has the values and the tables of the paper they come from."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import (
    BelowOne,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Record,
)

EvalResize = Literal["shorter_side", "squeeze"]  # squeeze: both sides, ignoring the aspect ratio


class NetworkRecipe(Record):
    """Initial weights, and regularization of the residual branches."""

    weight_init: Literal["kaiming", "trunc_normal"]
    layer_scale: float | None  # initial value, or null for no layer scale
    stochastic_depth: BelowOne  # drop rate of the last block
    head_init_scale: PositiveFloat  # multiplies the classifier's initial weights and biases
    residual: Literal["fp32", "autocast"] = "fp32"  # dtype of the residual sums with layer scale


class OptimizerRecipe(Record):
    """SGD uses ``momentum``, AdamW uses ``betas``. The learning rate is absolute; it does not scale with the batch."""

    name: Literal["sgd", "adamw"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    decay: Literal["all", "matrices"]  # matrices: no weight decay on vectors (biases, norms, layer scale)
    layer_decay: Fraction | None  # factor on the learning rate from each layer to the one below; null: one rate
    layer_group: PositiveInt  # blocks per layer of layer_decay
    momentum: BelowOne = 0.0
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)


class ScheduleRecipe(Record):
    """The learning-rate schedule over ``epochs``, stretched or shrunk to the length of the run."""

    name: Literal["step", "cosine"]
    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat = 0.0  # linear, from 0
    step_epochs: PositiveFloat = 1.0  # step: epochs between multiplications by step_factor
    step_factor: float = 1.0
    min_lr: float = 0.0  # cosine: final rate

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise RequestError(
                f"recipe.schedule.warmup_epochs must be at most recipe.schedule.epochs={self.epochs} "
                f"(got {self.warmup_epochs:g})"
            )


class RandAugmentRecipe(Record):
    """RandAugment (arXiv:1909.13719): ``ops`` operations per image, each applied with a probability.

    Magnitudes are drawn from a normal distribution on a scale of 0 to 10.
    """

    ops: NonNegativeInt
    probability: Probability  # of each op
    magnitude: Annotated[float, Meta(ge=0, le=10)]
    magnitude_std: NonNegativeFloat
    # timm: rand-m9-mstd0.5-inc1, as in the paper; missing in configs of older runs
    operations: Literal["timm", "torchvision"] = "torchvision"


class AugmentRecipe(Record):
    """Augmentation of training images. Each group of ``batch_norm_images`` gets either MixUp or CutMix."""

    crop_scale: tuple[Fraction, Fraction]  # random resized crop: fraction of the image's area
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

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed, by MixUp or CutMix."""
        return self.mixup is not None or self.cutmix is not None


class Recipe(Record):
    """A complete training recipe; arXiv:2201.03545, section 2.1 and Tables 5 and 6."""

    place: ClassVar[str] = "recipe"

    name: str
    batch_size: PositiveInt  # of one update, over all devices and accumulation steps
    batch_norm_images: PositiveInt  # normalised together by BN in training, and mixed by one MixUp or CutMix draw
    image_size: PositiveInt  # the regime's, unless the recipe sets another
    optimizer: OptimizerRecipe
    schedule: ScheduleRecipe
    augment: AugmentRecipe
    network: NetworkRecipe
    label_smoothing: BelowOne
    ema_decay: BelowOne | None  # per update; null: no averaged weights
    eval_crop_ratio: Fraction  # side of the centre crop relative to the resized image
    eval_resize: EvalResize = "shorter_side"  # missing in configs of older runs
