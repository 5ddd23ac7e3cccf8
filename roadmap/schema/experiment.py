"""One run as it is asked for: what defines its result, and how it is carried out."""

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.corruptions import Severity
from roadmap.schema.design import Design
from roadmap.schema.recipe import Recipe
from roadmap.schema.weights_file import file_digest, weights_file
from roadmap.validation import BelowOne, NonNegativeInt, PositiveFloat, PositiveInt, Record, Share

TOTAL_STRIDE = 32  # of every design: a smaller image would be less than a pixel in the last stage
ImageSize = Annotated[int, Meta(ge=TOTAL_STRIDE)]
MEMORY_SOURCES = ("digits", "cifar10", "cifar100", "cifar_c")  # kept on the device; all others are encoded images
EVALUATION_SOURCES = ("corruption_folders", "class_folders", "real_labels", "cifar_c")  # never trained on


class Data(Record):
    """Where images come from; ``mean`` and ``std`` normalise values scaled to 0..1, per channel."""

    place: ClassVar[str] = "data"

    name: str
    source: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "folder",
        "parquet",
        "webdataset",
        "corruption_folders",
        "class_folders",
        "real_labels",
        "cifar_c",
    ]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    root: str | None
    num_classes: PositiveInt | None  # None: as many as the folder has
    holdout: BelowOne  # share of the training images evaluated on instead of the test images
    classes: Annotated[int, Meta(ge=2)] | None = (
        None  # image files: of num_classes so many, evenly spaced in their order; None: all
    )
    max_corrupt: NonNegativeInt = 0  # images that may be unreadable before the run stops
    train_files: str | None = None  # parquet and webdataset: patterns under root
    val_files: str | None = None
    image_column: str = "image"  # parquet
    label_column: str = "label"
    # sets that are only evaluated on
    images: PositiveInt | None = (
        None  # of the whole set, or of each of its parts, as published; None: as many as there are
    )
    eval_crop_ratio: Share | None = None  # of images that are published cropped, before the network's own
    class_names: Literal["wnids", "numbers"] = "wnids"  # what class folders are called
    corruptions: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    labels_file: str | None = None  # under root: ReaL's

    def __post_init__(self) -> None:
        if self.classes is not None and self.source in MEMORY_SOURCES:
            raise RequestError(f"data.classes does not go with data={self.name}, which has no image files")
        if self.source in EVALUATION_SOURCES:
            for key, unset in (("classes", None), ("holdout", 0)):
                if getattr(self, key) != unset:
                    raise RequestError(f"data.{key} does not go with data={self.name}, which is only evaluated on")


class Logger(Record):
    """Where metrics go besides the run's own folder."""

    place: ClassVar[str] = "logger"

    name: Literal["local", "wandb"]
    project: str = "roadmap"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    group: str | None = None  # under which runs stand together


class Settings(Record):
    """How a run is carried out: where, how fast. None of it is part of the run's identity."""

    runs_dir: str
    device: str
    micro_batch_size: int | None
    num_workers: NonNegativeInt
    channels_last: bool
    compile: bool
    sync_batchnorm: bool
    resume: Literal["auto", "never"]
    checkpoint_epochs: PositiveInt
    checkpoint_minutes: PositiveFloat
    max_skipped_updates: NonNegativeInt
    save_predictions: bool


if TYPE_CHECKING:
    Network = Design | BaselineModel
else:
    Network = Any  # msgspec takes no union of two records; each is checked when it is made


class Experiment(Record):
    """A design, or a rival, trained with a recipe on data from a seed.

    ``step`` is the step of the roadmap it starts from, or the rival, and ``variant`` the same in words with what was
    toggled.
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
    pretrained: str | None  # file of weights, checkpoint or run folder to start from

    def __post_init__(self) -> None:
        self.micro_batch_size(1)
        if self.data.source in EVALUATION_SOURCES:
            raise RequestError(
                f"data={self.data.name} is only evaluated on (roadmap evaluate RUN data={self.data.name}); "
                "choose data to train on, such as imagenet or cifar10"
            )

    def micro_batch_size(self, processes: int) -> int:
        """Images of one forward and backward pass of one of ``processes``; RequestError where they do not add up."""
        micro = self.settings.micro_batch_size
        if self.batch_size % processes:
            raise RequestError(
                f"batch_size={self.batch_size} does not divide among {processes} processes; choose a multiple of them"
            )
        share = self.batch_size // processes
        if micro is not None and (micro < 1 or share % micro):
            among = f" / {processes} processes" if processes > 1 else ""
            raise RequestError(
                f"micro_batch_size={micro} does not divide batch_size={self.batch_size}{among}; "
                f"choose a divisor of {share}"
            )
        return micro or share

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that defines the result, and nothing that does not: two runs with equal definitions are one.

        The data's folder is known by its absolute path, the weights to start from by what the file holds. Recipe and
        step are known by what they set, not by name. Raises RequestError where there is no such file.
        """
        root = self.data.root if self.data.source not in MEMORY_SOURCES else None
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
        if self.pretrained is not None:
            definition["pretrained"] = file_digest(weights_file(self.pretrained))
        return definition

    def _recipe_definition(self) -> dict[str, Any]:
        """What the recipe sets; a setting that does nothing is left out, as runs were defined before there was one."""
        recipe = self.recipe.to_dict()
        # superseded by the run's own
        del recipe["name"], recipe["batch_size"], recipe["image_size"]
        if self.recipe.optimizer.layer_decay is None:
            del recipe["optimizer"]["layer_decay"], recipe["optimizer"]["layer_group"]
        if self.recipe.network.head_init_scale == 1:
            del recipe["network"]["head_init_scale"]
        return recipe

    @property
    def run_id(self) -> str:
        """Ten hexadecimal digits of the definition's hash."""
        text = json.dumps(self.definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]
