"""Training recipes as records; the values, and the tables of the paper they come from, are in ``conf/recipe/``."""

from dataclasses import dataclass
from typing import Literal

from roadmap.checked import Checked
from roadmap.errors import RequestError


@dataclass(frozen=True)
class NetworkRecipe(Checked):
    """What a recipe asks of the network itself: where its weights start and how residual branches are regularised."""

    place = "recipe.network"

    weight_init: Literal["kaiming", "trunc_normal"]
    layer_scale: float | None  # initial value; null: none
    stochastic_depth: float  # drop rate of the last block
    head_init_scale: float  # multiplies the classifier's initial weights and biases

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("recipe.network.stochastic_depth", self.stochastic_depth, 0, 1, open_above=True)
        _in_range("recipe.network.head_init_scale", self.head_init_scale, 0, open_below=True)


@dataclass(frozen=True)
class OptimizerRecipe(Checked):
    """SGD reads ``momentum``, AdamW reads ``betas``; the learning rate is absolute, never scaled by the batch."""

    place = "recipe.optimizer"

    name: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    decay: Literal["all", "matrices"]  # matrices: not on vectors (biases, norms, layer scale)
    layer_decay: float | None  # each layer's share of the learning rate of the one above it; null: one rate for all
    layer_group: int  # blocks that make a layer of layer_decay
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("recipe.optimizer.lr", self.lr, 0, open_below=True)
        _in_range("recipe.optimizer.weight_decay", self.weight_decay, 0)
        for place, share in (("momentum", self.momentum), ("betas[0]", self.betas[0]), ("betas[1]", self.betas[1])):
            _in_range(f"recipe.optimizer.{place}", share, 0, 1, open_above=True)
        if self.layer_decay is not None:
            _in_range("recipe.optimizer.layer_decay", self.layer_decay, 0, 1, open_below=True)
        _in_range("recipe.optimizer.layer_group", self.layer_group, 1)


@dataclass(frozen=True)
class ScheduleRecipe(Checked):
    """How the learning rate moves over ``epochs``; another number of epochs stretches or shrinks the whole of it."""

    place = "recipe.schedule"

    name: Literal["step", "cosine"]
    epochs: int
    warmup_epochs: float = 0.0  # linear, from 0
    step_epochs: float = 1.0  # step: the rate is multiplied by step_factor this often
    step_factor: float = 1.0
    min_lr: float = 0.0  # cosine: where it ends

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("recipe.schedule.epochs", self.epochs, 1)
        _in_range("recipe.schedule.warmup_epochs", self.warmup_epochs, 0, self.epochs)
        _in_range("recipe.schedule.step_epochs", self.step_epochs, 0, open_below=True)


@dataclass(frozen=True)
class RandAugmentRecipe(Checked):
    """RandAugment (arXiv:1909.13719): ``ops`` an image, each with a probability.

    Their strength is on a scale of 0 to 10, spread by a normal.
    """

    place = "recipe.augment.randaugment"

    ops: int
    probability: float  # of each op
    magnitude: float
    magnitude_std: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("recipe.augment.randaugment.ops", self.ops, 0)
        _in_range("recipe.augment.randaugment.probability", self.probability, 0, 1)
        _in_range("recipe.augment.randaugment.magnitude", self.magnitude, 0, 10)
        _in_range("recipe.augment.randaugment.magnitude_std", self.magnitude_std, 0)


@dataclass(frozen=True)
class AugmentRecipe(Checked):
    """What happens to a training batch; MixUp and CutMix take turns, one of them in each batch."""

    place = "recipe.augment"

    crop_scale: tuple[float, float]  # random resized crop: share of the image's area
    crop_aspect: tuple[float, float]
    horizontal_flip: float  # probability
    interpolation: Literal["bilinear", "bicubic"]  # in evaluation too
    randaugment: RandAugmentRecipe | None
    mixup: float | None  # alpha
    cutmix: float | None  # alpha
    random_erasing: float  # probability

    def __post_init__(self) -> None:
        super().__post_init__()
        for place, (low, high), most in (("scale", self.crop_scale, 1), ("aspect", self.crop_aspect, float("inf"))):
            _in_range(f"recipe.augment.crop_{place}[0]", low, 0, most, open_below=True)
            _in_range(f"recipe.augment.crop_{place}[1]", high, low, most)
        for place, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if alpha is not None:
                _in_range(f"recipe.augment.{place}", alpha, 0, open_below=True)
        _in_range("recipe.augment.horizontal_flip", self.horizontal_flip, 0, 1)
        _in_range("recipe.augment.random_erasing", self.random_erasing, 0, 1)


@dataclass(frozen=True)
class Recipe(Checked):
    """A whole training recipe; arXiv:2201.03545, section 2.1 and Tables 5 and 6."""

    place = "recipe"

    name: str
    batch_size: int  # of one update, over all devices and accumulation steps
    image_size: int  # the regime's, unless the recipe is for another
    optimizer: OptimizerRecipe
    schedule: ScheduleRecipe
    augment: AugmentRecipe
    network: NetworkRecipe
    label_smoothing: float
    ema_decay: float | None  # per update; null: no averaged weights
    eval_crop_ratio: float  # share of the resized image's side that the centre crop keeps

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("recipe.batch_size", self.batch_size, 1)
        _in_range("recipe.label_smoothing", self.label_smoothing, 0, 1, open_above=True)
        if self.ema_decay is not None:
            _in_range("recipe.ema_decay", self.ema_decay, 0, 1, open_above=True)
        _in_range("recipe.eval_crop_ratio", self.eval_crop_ratio, 0, 1, open_below=True)


def _in_range(
    place: str,
    value: float,
    low: float,
    high: float = float("inf"),
    *,
    open_below: bool = False,
    open_above: bool = False,
) -> None:
    inside = (low < value if open_below else low <= value) and (value < high if open_above else value <= high)
    if not inside:
        bound = "a value above" if open_below else "at least"
        between = f"a value {'above' if open_below else 'from'} {low} {'and' if open_below else 'to'} "
        below = f"{'below' if open_above else 'up to' if open_below else ''} {high}".strip()
        wanted = f"{bound} {low}" if high == float("inf") else between + below
        raise RequestError(f"{place}={value} is out of range; it wants {wanted}")
