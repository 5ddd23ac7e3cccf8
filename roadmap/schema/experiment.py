"""The record of a run: what defines its result, and how it is carried out."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn, Self

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.corruptions import Severity
from roadmap.schema.design import BaselineModel, Design
from roadmap.schema.recipe import EvalResize, Recipe
from roadmap.schema.torchvision_sets import torchvision_set
from roadmap.validation import BelowOne, Fraction, NonNegativeInt, PositiveFloat, PositiveInt, Record

TOTAL_STRIDE = 32  # of every design: a smaller image would have no pixel left in the last stage
ImageSize = Annotated[int, Meta(ge=TOTAL_STRIDE)]
MEMORY_SOURCES = ("digits", "cifar10", "cifar100", "cifar_c")  # always kept on the device; the others may be files
NAMED_SOURCES = (*MEMORY_SOURCES, "torchvision")  # the name says which images; of the others their folder does
IN_MEMORY_SIZE = 64  # largest image_size that in_memory=auto keeps decoded
EVALUATION_SOURCES = ("corruption_folders", "class_folders", "real_labels", "cifar_c")  # for evaluation only


class Data(Record):
    """A data set. ``mean`` and ``std``, per channel, normalize values scaled to 0..1."""

    place: ClassVar[str] = "data"

    name: str
    source: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "folder",
        "parquet",
        "webdataset",
        "torchvision",
        "corruption_folders",
        "class_folders",
        "real_labels",
        "cifar_c",
    ]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    root: str | None
    num_classes: PositiveInt | None  # None: as many as there are class folders
    holdout: BelowOne  # fraction of the training images to evaluate on instead of the test images
    classes: Annotated[int, Meta(ge=2)] | None = None  # image files: train on this many classes, evenly spaced
    train_images: PositiveInt | None = None  # train on this many images, the same for each seed, balanced over classes
    cache: str | None = None  # folder of indices and decoded images; None: root, or the user's own folder of caches
    max_corrupt: NonNegativeInt = 0  # unreadable images to tolerate before the run fails
    train_files: str | None = None  # parquet and webdataset: patterns under root
    val_files: str | None = None
    image_column: str = "image"  # parquet
    label_column: str = "label"
    # evaluation sets
    images: PositiveInt | None = None  # published number of images of the set, or of each part; None: not checked
    eval_crop_ratio: Fraction | None = None  # of images published already cropped; overrides the recipe's
    corruptions: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    labels_file: str | None = None  # ReaL labels, under root

    def __post_init__(self) -> None:
        if self.source == "torchvision":
            torchvision_set(self.name)
        if self.classes is not None and self.source in MEMORY_SOURCES:
            raise RequestError(f"data.classes does not go with data={self.name}, which has no image files")
        if self.source in EVALUATION_SOURCES:
            for key, unset in (("classes", None), ("holdout", 0), ("train_images", None)):
                if getattr(self, key) != unset:
                    raise RequestError(f"data.{key} does not go with data={self.name}, which is for evaluation only")


class Logger(Record):
    """Where metrics are logged, in addition to the run folder."""

    place: ClassVar[str] = "logger"

    name: Literal["local", "wandb"]
    project: str = "roadmap"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    group: str | None = None  # W&B's run group


class Settings(Record):
    """How a run is carried out: device, speed, checkpoints. Not part of the run's identity."""

    runs_dir: str
    device: str
    micro_batch_size: PositiveInt | None
    in_memory: Literal["auto"] | bool
    memory_budget_gb: PositiveFloat | None
    num_workers: Literal["auto"] | NonNegativeInt
    workers: Literal["auto"] | PositiveInt
    channels_last: bool
    compile: Literal["auto"] | bool
    pointwise_linear: Literal["auto"] | bool
    checkpoint_stages: Annotated[int, Meta(ge=0, le=4)]
    cuda_graph: Literal["auto"] | bool
    resume: Literal["auto", "never"]
    eval_every: PositiveInt
    checkpoint_epochs: PositiveInt
    checkpoint_minutes: PositiveFloat
    max_skipped_updates: NonNegativeInt
    save_predictions: bool


if TYPE_CHECKING:
    Network = Design | BaselineModel
else:
    Network = Any  # msgspec does not accept a union of two records; each is checked when it is made


class Experiment(Record):
    """One run: a design, or a baseline model, trained with a recipe on a data set from a seed.

    ``step`` is the name of the roadmap's step, or of the baseline model. ``variant`` is the step with its toggles, such
    as ``separate_downsampling norm=batch``.
    """

    regime: str
    step: str
    variant: str
    design: Network
    recipe: Recipe
    data: Data
    logger: Logger
    settings: Settings
    seed: int
    epochs: PositiveInt
    batch_size: PositiveInt
    image_size: ImageSize
    precision: Literal["fp32", "bf16", "fp16"]
    pretrained: str | None  # weights file, checkpoint or run folder to start from

    def __post_init__(self) -> None:
        self.micro_batch_size(1)
        if self.data.source in MEMORY_SOURCES and self.settings.in_memory is False:
            raise RequestError(f"data={self.data.name} is always in memory; choose in_memory=auto")
        if self.data.source in EVALUATION_SOURCES:
            raise RequestError(
                f"data={self.data.name} is for evaluation only (roadmap evaluate RUN data={self.data.name}); "
                "choose a training set such as imagenet or cifar10"
            )

    def micro_batch_size(self, processes: int) -> int:
        """Return the images per forward pass of each process: the largest part of its share within the ceiling.

        With BN, MixUp or CutMix, a part consists of whole groups of ``batch_norm_images``. Raises RequestError if the
        batch cannot be split so.
        """
        share, rest = divmod(self.batch_size, processes)
        most = min(self.settings.micro_batch_size or share, share)
        # what is tried first for a baseline model, which may have BN
        step = 1 if self.has_groups is False else self.batch_norm_images
        whole_groups = (size for size in range(most - most % step, 0, -step) if not rest and share % size == 0)
        if found := next(whole_groups, None):
            return found
        if self.has_groups:
            self.refuse_groups(processes)
        if rest:
            raise RequestError(
                f"batch_size={self.batch_size} must be a multiple of the number of processes, {processes}"
            )
        return next(size for size in range(most, 0, -1) if share % size == 0)

    def refuse_groups(self, processes: int) -> NoReturn:
        """Raise RequestError: the batch cannot be split into whole groups of ``batch_norm_images``."""
        batch, images = self.batch_size, self.batch_norm_images
        setting = f"recipe.batch_norm_images={images}"
        if batch % images:
            raise RequestError(
                f"batch_size={batch} must be a multiple of {setting}: BN normalises, and MixUp and CutMix mix, "
                f"so many images together (choose {batch // images * images} or {(batch // images + 1) * images})"
            )
        if batch // images % processes:
            accepted = [str(count) for count in range(1, processes) if batch // images % count == 0]
            raise RequestError(
                f"{processes} processes cannot share batch_size={batch} in whole groups of {setting} "
                f"(their number must be {listed(accepted)}, or recipe.batch_norm_images smaller)"
            )
        raise RequestError(
            f"micro_batch_size={self.settings.micro_batch_size} must be at least {setting}, or null: "
            "BN normalises, and MixUp and CutMix mix, so many images together"
        )

    @property
    def batch_norm_images(self) -> int:
        """Images that BN normalises together in training, and that share one draw of MixUp or CutMix."""
        return min(self.recipe.batch_norm_images, self.batch_size)

    @property
    def has_groups(self) -> bool | None:
        """Whether ``batch_norm_images`` has an effect: None for a baseline model, which may or may not have BN."""
        if self.recipe.augment.mixes:
            return True
        return self.design.norm == "batch" if isinstance(self.design, Design) else None

    @property
    def in_memory(self) -> bool:
        """Whether images are decoded once and kept on the device.

        Then crops are taken from the image at ``image_size``, not from the file, so this is part of the definition and
        follows from the config, never from the machine.
        """
        if self.data.source in MEMORY_SOURCES:
            return True
        chosen = self.settings.in_memory
        return self.image_size <= IN_MEMORY_SIZE if chosen == "auto" else chosen

    @property
    def definition(self) -> dict[str, Any]:
        """Return everything that defines the result, and nothing else: equal definitions are the same run.

        The data's folder counts by its absolute path, initial weights by the file's content, recipe and step by their
        settings rather than their names. Raises RequestError if the weights file is missing.
        """
        root = self.data.root if self.data.source not in NAMED_SOURCES else None
        definition: dict[str, Any] = {
            "design": self.design.to_dict(),
            "recipe": self._recipe_definition(),
            "data": {
                "name": self.data.name,
                "root": os.path.realpath(root) if root else None,
                "mean": list(self.data.mean),
                "std": list(self.data.std),
                "holdout": self.data.holdout,
            },
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "image_size": self.image_size,
            "precision": self.precision,
        }
        if self.data.classes is not None:
            definition["data"]["classes"] = self.data.classes
        if self.in_memory and self.data.source not in MEMORY_SOURCES:
            definition["data"]["in_memory"] = True
        if self.data.train_images is not None:
            definition["data"]["train_images"] = self.data.train_images
        if self.pretrained is not None:
            definition["pretrained"] = file_digest(weights_file(self.pretrained).resolve())
        return definition

    def _recipe_definition(self) -> dict[str, Any]:
        """Return the recipe's settings, without those that have no effect, which older definitions lack."""
        recipe = self.recipe.to_dict()
        # the run's own settings replace these
        del recipe["name"], recipe["batch_size"], recipe["image_size"]
        recipe["batch_norm_images"] = self.batch_norm_images
        if self.recipe.optimizer.layer_decay is None:
            del recipe["optimizer"]["layer_decay"], recipe["optimizer"]["layer_group"]
        network = self.recipe.network
        if network.head_init_scale == 1:
            del recipe["network"]["head_init_scale"]
        if network.residual == "fp32" or network.layer_scale is None or self.precision == "fp32":
            del recipe["network"]["residual"]
        if self.recipe.augment.randaugment and self.recipe.augment.randaugment.operations == "torchvision":
            del recipe["augment"]["randaugment"]["operations"]
        if self.recipe.eval_resize == "shorter_side":
            del recipe["eval_resize"]
        return recipe

    @property
    def run_id(self) -> str:
        """Return ten hexadecimal digits of the definition's SHA-256."""
        text = json.dumps(self.definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class EvalTransform(Record):
    """How images are preprocessed for evaluation: resize, centre crop, normalization of values scaled to 0..1."""

    image_size: int
    crop_ratio: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: EvalResize = "shorter_side"

    @classmethod
    def of(cls, recipe: Recipe, data: Data, **others: Any) -> Self:
        """Return the transform of a recipe for a data set; ``others`` are the other fields."""
        return cls(
            crop_ratio=recipe.eval_crop_ratio,
            interpolation=recipe.augment.interpolation,
            resize=recipe.eval_resize,
            mean=data.mean,
            std=data.std,
            **others,
        )


class EvalSettings(EvalTransform, kw_only=True):
    """The transform with the settings of an evaluation; ``batch_size`` is per process."""

    precision: str
    channels_last: bool
    num_workers: Literal["auto"] | NonNegativeInt
    batch_size: int


def weights_file(pretrained: str) -> Path:
    """Return the file, or the last checkpoint of a run folder. Raises RequestError if there is none."""
    path = Path(pretrained)
    file = path / "checkpoints" / "last.pt" if path.is_dir() else path
    if not file.is_file():
        hint = "a run folder has its checkpoint there" if path.is_dir() else "choose a weights file or a run folder"
        raise RequestError(f"pretrained={pretrained}: no file {file}; {hint}")
    return file


@cache
def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; cached. Raises RequestError if the file cannot be read."""
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
