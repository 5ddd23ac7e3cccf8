"""What one evaluation is about: a network and how it is shown images, with the key that its record is found by."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from roadmap.errors import RequestError
from roadmap.evaluation.load_trained import Trained
from roadmap.evaluation.request import EvaluationRequest, data_fields
from roadmap.runs.evaluation_record import EvaluationRecord, key_of, read_record, record_file
from roadmap.schema.corruptions import Corruptions
from roadmap.schema.eval_transform import EvalSettings
from roadmap.schema.experiment import MEMORY_SOURCES, Data

# of each field of a data set that may be left out what it is then, in plain values
DATA_UNSET = {
    entry.name: list(entry.default) if isinstance(entry.default, tuple) else entry.default
    for entry in msgspec.structs.fields(Data)
    if not entry.required
}


@dataclass(frozen=True)
class EvaluationTask:
    """A network and how it is evaluated: what one record is about. ``file`` is where the record goes."""

    trained: Trained
    data: Data
    view: EvalSettings
    corruptions: Corruptions | None
    save_predictions: bool
    output: Path | None = None

    @cached_property
    def definition(self) -> dict[str, Any]:
        """Everything that defines the result: the weights, the images by where they lie, how they are shown."""
        # what is not set is left out: a setting to come must not make every record another's
        data = {name: value for name, value in self.data.to_dict().items() if value != DATA_UNSET.get(name, ...)}
        for name in ("mean", "std"):
            del data[name]
        data.pop("max_corrupt", None)
        data["root"] = (
            None if self.data.source in MEMORY_SOURCES or not self.data.root else os.path.realpath(self.data.root)
        )
        shown = ("image_size", "crop_ratio", "interpolation", "mean", "std", "precision")
        return {
            "weights": self.trained.digest,
            # the best may be the last, and is still to be called the best
            "checkpoint": self.trained.checkpoint["file"] if self.trained.folder else None,
            "data": data,
            "corruptions": self.corruptions and self.corruptions.to_dict(),
            **{name: value for name, value in self.view.to_dict().items() if name in shown},
        }

    @cached_property
    def key(self) -> str:
        return key_of(self.definition)

    @property
    def conditions(self) -> str:
        """Equal for exams on the same images at the same size, crop and precision, whatever the network."""
        own = ("weights", "checkpoint", "interpolation", "mean", "std")
        return key_of({name: value for name, value in self.definition.items() if name not in own})

    @property
    def file(self) -> Path:
        """Where its record goes: the run's folder, unless another file is asked for."""
        if self.output is not None:
            return self.output
        assert self.trained.folder is not None
        return record_file(self.trained.folder, self.key)

    def predictions_file(self, part: str) -> Path:
        """Where the answers on a part go: ``KEY.npz``, or ``KEY/fog-3.npz``."""
        beside = self.file.with_suffix("")
        return beside / f"{part.replace('/', '-')}.npz" if part else beside.with_suffix(".npz")

    def kept(self) -> EvaluationRecord | None:
        """Its record, if that is there already with the predictions that are to be saved."""
        record = read_record(self.file)
        # a file named with -o may hold another evaluation's
        if record is None or record["key"] != self.key:
            return None
        wanted = [part["part"] for part in record["parts"] if self.save_predictions and part["part"]]
        return record if all(self.predictions_file(part).is_file() for part in wanted) else None


def exam(trained: Trained, request: EvaluationRequest, output: Path | None = None) -> EvaluationTask:
    """A network's exam: its own way of seeing images, with what the request changes of it."""
    names = ("image_size", "crop_ratio", "interpolation", "precision", "channels_last", "num_workers", "batch_size")
    given = {name: value for name in names if (value := getattr(request, name)) is not None}
    own = trained.data.to_dict() if trained.data is not None else None
    data = Data.from_mapping(data_fields(own, request.data))
    if data.eval_crop_ratio is not None:
        if request.crop_ratio not in (None, data.eval_crop_ratio):
            raise RequestError(
                f"crop_ratio={request.crop_ratio} does not go with data={data.name}, whose images are published as "
                f"they are to be evaluated (data.eval_crop_ratio={data.eval_crop_ratio})"
            )
        given["crop_ratio"] = data.eval_crop_ratio
    return EvaluationTask(
        trained, data, trained.view.replace(**given), request.corrupted, request.save_predictions, output
    )
