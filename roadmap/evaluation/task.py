"""One evaluation: the settings asked for, and the network, data and transform that they lead to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from roadmap.config.composition import composition
from roadmap.config.overrides import key_of as override_key
from roadmap.errors import RequestError
from roadmap.evaluation.load_trained import TrainedModel
from roadmap.formatting import listed
from roadmap.runs.evaluations import EvaluationRecord, key_of, read_evaluation
from roadmap.schema.corruptions import CORRUPTIONS, SYNTHETIC_FROST, WITHOUT_PHOTOGRAPHS, Corruptions
from roadmap.schema.experiment import NAMED_SOURCES, Data, EvalSettings
from roadmap.schema.recipe import EvalResize
from roadmap.validation import Fraction, NonNegativeInt, PositiveInt, Record


class EvaluationRequest(Record):
    """The settings of ``conf/evaluate.yaml``; None keeps the network's own.

    ``data`` holds changed fields of the network's data, or all fields of another data set. ``corruptions`` names
    corruptions to evaluate on as well.
    """

    checkpoint: Literal["last", "best"]
    weights: Literal["network", "averaged"]
    image_size: PositiveInt | None
    crop_ratio: Fraction | None
    interpolation: Literal["bilinear", "bicubic"] | None
    resize: EvalResize | None
    precision: Literal["fp32", "bf16", "fp16"] | None
    device: str
    channels_last: bool | None
    num_workers: Literal["auto"] | NonNegativeInt | None
    batch_size: PositiveInt | None
    corruptions: str | tuple[str, ...] | None
    severities: tuple[int, ...]
    frost: str | None
    save_predictions: bool
    data: dict[str, Any] | None = None

    @property
    def corrupted(self) -> Corruptions | None:
        """The corruptions to evaluate on as well. Raises RequestError for an unknown one."""
        if self.corruptions is None:
            return None
        names = {self.corruptions} if isinstance(self.corruptions, str) else set(self.corruptions)
        if "all" in names:
            names = set(CORRUPTIONS if self.frost else WITHOUT_PHOTOGRAPHS)
        # in a fixed order, so that the same corruptions have the same key
        order = [name for one in CORRUPTIONS for name in ((one, SYNTHETIC_FROST) if one == "frost" else (one,))]
        known = [name for name in order if name in names]
        frost = self.frost and os.path.realpath(self.frost)
        return Corruptions.from_mapping(
            {"names": [*known, *sorted(names - {*known})], "severities": sorted({*self.severities}), "frost": frost}
        )


SETTINGS = tuple(name for name in EvaluationRequest.__struct_fields__ if name != "data")
# settings of weights without a run that conf/config.yaml does not have
EVALUATION_ONLY = ("crop_ratio", "interpolation", "resize", "corruptions", "severities", "frost", "save_predictions")


def evaluation_request(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> EvaluationRequest:
    """Return the request that overrides make. Raises RequestError for an unknown setting or a value out of range."""
    keys = [override_key(word) for word in overrides]
    for key in keys:
        if key in ("data.mean", "data.std"):
            raise RequestError(f"{key} cannot be changed: images are normalised as in the network's training")
        if key not in SETTINGS and key.split(".")[0] != "data":
            raise RequestError(f"{key}= is not a setting of an evaluation (choose {listed((*SETTINGS, 'data'))})")
    if lone := [key for key in ("severities", "frost") if key in keys and "corruptions" not in keys]:
        raise RequestError(f"{lone[0]}= requires corruptions=…; use data.severities=… for a published set")
    if "data" not in keys:
        # changes to the network's own data
        overrides = [f"+{word}" if word.startswith("data.") else word for word in overrides]
    return EvaluationRequest.from_mapping(composition("evaluate", overrides, config_dirs)[0])


@dataclass(frozen=True)
class EvaluationTask:
    """A network and how to evaluate it. The record goes to ``output``, by default into the run's folder."""

    model: TrainedModel
    data: Data
    settings: EvalSettings
    corruptions: Corruptions | None
    save_predictions: bool
    output: Path | None = None

    @cached_property
    def definition(self) -> dict[str, Any]:
        """Everything that defines the result: weights, images by their location, and the transform."""
        # defaults are omitted, so that a new setting does not change the keys of old records
        defaults = {entry.name: entry.default for entry in msgspec.structs.fields(Data)}
        unset = {name for name, default in defaults.items() if getattr(self.data, name) == default}
        omitted = {*unset, "mean", "std", "max_corrupt", "cache", "train_images"}
        data = {name: value for name, value in self.data.to_dict().items() if name not in omitted}
        named = self.data.source in NAMED_SOURCES
        data["root"] = None if named or not self.data.root else os.path.realpath(self.data.root)
        settings = self.settings.to_dict()
        transform = ("image_size", "crop_ratio", "interpolation", "mean", "std", "precision")
        return {
            "weights": self.model.digest,
            # best.pt and last.pt may hold the same weights and still need a record each
            "checkpoint": self.model.checkpoint["file"] if self.model.folder else None,
            "data": data,
            "corruptions": self.corruptions and self.corruptions.to_dict(),
            **{name: settings[name] for name in transform},
            **({} if settings["resize"] == "shorter_side" else {"resize": settings["resize"]}),
        }

    @cached_property
    def key(self) -> str:
        return key_of(self.definition)

    @property
    def conditions(self) -> str:
        """Equal for evaluations on the same images at the same size, crop and precision, for any network."""
        own = ("weights", "checkpoint", "interpolation", "mean", "std")
        return key_of({name: value for name, value in self.definition.items() if name not in own})

    @property
    def file(self) -> Path:
        if self.output is not None:
            return self.output
        assert self.model.folder is not None
        return self.model.folder / "evaluations" / f"{self.key}.json"

    def predictions_file(self, part: str) -> Path:
        """The file of predictions on a part: ``KEY.npz`` for the whole set, ``KEY/fog-3.npz`` for corrupted images."""
        stem = self.file.with_suffix("")
        return stem / f"{part.replace('/', '-')}.npz" if part else stem.with_suffix(".npz")

    def existing_record(self) -> EvaluationRecord | None:
        """Return the record on disk, or None if it, or a file of predictions to be saved, is missing."""
        try:
            record = read_evaluation(self.file)
        except (OSError, ValueError):
            return None
        # a file named with -o may hold another evaluation's record
        if record["key"] != self.key:
            return None
        names = [part["part"] for part in record["parts"] if self.save_predictions and part["part"]]
        return record if all(self.predictions_file(name).is_file() for name in names) else None


def evaluation_task(model: TrainedModel, request: EvaluationRequest, output: Path | None = None) -> EvaluationTask:
    """Return the task that evaluates a network with its own transform, as changed by the request."""
    names = ("image_size", "crop_ratio", "interpolation", "resize", "precision", "channels_last", "num_workers")
    changes = {name: value for name in (*names, "batch_size") if (value := getattr(request, name)) is not None}
    given = request.data or {}
    own = {} if "source" in given or model.data is None else model.data.to_dict()
    data = Data.from_mapping(own | given)
    if data.eval_crop_ratio is not None:
        if request.crop_ratio not in (None, data.eval_crop_ratio):
            raise RequestError(
                f"crop_ratio={request.crop_ratio} conflicts with data={data.name}, whose images are published cropped"
            )
        changes["crop_ratio"] = data.eval_crop_ratio
    settings = model.settings.replace(**changes)
    return EvaluationTask(model, data, settings, request.corrupted, request.save_predictions, output)
