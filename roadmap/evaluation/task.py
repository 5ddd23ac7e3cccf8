"""One evaluation: a network, the data and how images are transformed, with the key that identifies its record."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from roadmap.errors import RequestError
from roadmap.evaluation.load_trained import TrainedModel
from roadmap.evaluation.request import EvaluationRequest, data_fields
from roadmap.runs.evaluations import EvaluationRecord, key_of, read_evaluation
from roadmap.schema.corruptions import Corruptions
from roadmap.schema.experiment import MEMORY_SOURCES, Data, EvalSettings

# defaults of a data set's optional fields, as plain values
DATA_DEFAULTS = {
    entry.name: list(entry.default) if isinstance(entry.default, tuple) else entry.default
    for entry in msgspec.structs.fields(Data)
    if not entry.required
}


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
        data = {name: value for name, value in self.data.to_dict().items() if value != DATA_DEFAULTS.get(name, ...)}
        for name in ("mean", "std"):
            del data[name]
        data.pop("max_corrupt", None)
        in_memory = self.data.source in MEMORY_SOURCES
        data["root"] = None if in_memory or not self.data.root else os.path.realpath(self.data.root)
        settings = self.settings.to_dict()
        return {
            "weights": self.model.digest,
            # best.pt and last.pt may hold the same weights and still need a record each
            "checkpoint": self.model.checkpoint["file"] if self.model.folder else None,
            "data": data,
            "corruptions": self.corruptions and self.corruptions.to_dict(),
            **{
                name: settings[name]
                for name in ("image_size", "crop_ratio", "interpolation", "mean", "std", "precision")
            },
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
        """The record's file."""
        if self.output is not None:
            return self.output
        assert self.model.folder is not None
        return self.model.folder / "evaluations" / f"{self.key}.json"

    def predictions_file(self, part: str) -> Path:
        """The file of predictions on a part: ``KEY.npz`` for the whole set, ``KEY/fog-3.npz`` for corrupted images."""
        stem = self.file.with_suffix("")
        return stem / f"{part.replace('/', '-')}.npz" if part else stem.with_suffix(".npz")

    def existing_record(self) -> EvaluationRecord | None:
        """The record on disk, or None if it, or a file of predictions to be saved, is missing."""
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
    """The task that evaluates a network with its own transform, as changed by the request."""
    names = ("image_size", "crop_ratio", "interpolation", "precision", "channels_last", "num_workers", "batch_size")
    changes = {name: value for name in names if (value := getattr(request, name)) is not None}
    data = Data.from_mapping(data_fields(model.data.to_dict() if model.data is not None else None, request.data))
    if data.eval_crop_ratio is not None:
        if request.crop_ratio not in (None, data.eval_crop_ratio):
            raise RequestError(
                f"crop_ratio={request.crop_ratio} conflicts with data={data.name}, whose images are published cropped: "
                f"leave out crop_ratio (data.eval_crop_ratio={data.eval_crop_ratio})"
            )
        changes["crop_ratio"] = data.eval_crop_ratio
    settings = model.settings.replace(**changes)
    return EvaluationTask(model, data, settings, request.corrupted, request.save_predictions, output)
