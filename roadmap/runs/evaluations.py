"""The results of an evaluation: its record, and the predictions for each image.

The record is ``evaluations/KEY.json`` in the run's folder, where ``KEY`` is a hash of everything that defines the
result. ``KEY.npz`` holds the predictions, and ``KEY/`` those for corrupted images if requested; ``predictions.npz`` in
the run's folder holds those of its last epoch.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roadmap.errors import RequestError, WorkError
from roadmap.runs.records import is_file, is_place, read_file, read_json
from roadmap.runs.run_folder import write_whole
from roadmap.validation import FileRecord, Int64, converted, shown

PREDICTIONS = "predictions.npz"
# a part's name: empty for a whole data set, else a corruption and its severity
PART = re.compile(r"([a-z0-9_]+/[0-9]{1,9})?")
# zipfile raises RuntimeError for a damaged header that seems to need a password or another compression
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
EvaluationRecord = dict[str, Any]


class EvaluationPart(FileRecord):
    """The results on a part of the data: accuracies and calibration error in percent."""

    part: str
    images: Int64
    left_out: Int64
    top1: float
    top5: float | None = None
    loss: float | None = None
    ece: float | None = None
    ece_floor: float | None = None  # what perfect calibration has on average; missing in older records

    def __post_init__(self) -> None:
        if not PART.fullmatch(self.part):
            raise ValueError(f"part must be empty or a name such as 'gaussian_noise/3' (got {shown(self.part)})")


class EvaluatedCheckpoint(FileRecord):
    """The weights that were evaluated."""

    file: str
    weights: str
    epoch: Int64 | None = None


class Evaluation(FileRecord):
    """``evaluations/KEY.json``; docs/evaluate.md says what its fields are."""

    key: str
    conditions: str
    label: str
    data: str
    interpolation: str
    precision: str
    image_size: Int64
    num_classes: Int64
    crop_ratio: float
    chosen_on_these_images: bool
    checkpoint: EvaluatedCheckpoint
    parts: tuple[EvaluationPart, ...]
    class_top1: tuple[float | None, ...] | None = None
    class_images: tuple[float | None, ...] | None = None
    run_id: str | None = None
    regime: str | None = None
    step: str | None = None
    variant: str | None = None
    recipe: str | None = None
    device: str | None = None
    resize: str = "shorter_side"
    ended: str | None = None
    seed: Int64 | None = None
    epochs: Int64 | None = None
    schema: Int64 = 1

    def __post_init__(self) -> None:
        if any(not part.part for part in self.parts) and (self.class_top1 is None or self.class_images is None):
            raise ValueError("class_top1 and class_images are missing")


def key_of(definition: Mapping[str, Any]) -> str:
    """Return the key of an evaluation: ten hexadecimal digits of the hash of its definition."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def read_evaluation(file: Path) -> EvaluationRecord:
    """Return a record. Raises OSError if it cannot be read, and ValueError if it is invalid."""
    record: EvaluationRecord = read_json(file)
    converted(record, Evaluation)
    return record


def write_evaluation(file: Path, record: EvaluationRecord) -> None:
    """Write a record atomically. Raises WorkError."""
    make_folder(file.parent)
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def make_folder(folder: Path) -> None:
    """Create a folder. Raises WorkError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot create folder {folder}: {error.strerror}; choose another file with -o") from error


@dataclass(frozen=True)
class EvaluatedImages:
    """The evaluated images and their crop; two evaluations are of the same images if these are equal."""

    data: str
    digest: str  # hash of the labels and images in order
    image_size: int
    crop_ratio: float
    left_out: tuple[int, ...]  # indices of unreadable images, which have no prediction
    resize: str = "shorter_side"


@dataclass(frozen=True, eq=False)
class Predictions:
    """``labels`` and ``predicted`` classes and ``confidence`` from 0 to 1, each of shape (n,) for n images."""

    images: EvaluatedImages
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each image is classified correctly, bool of shape (n,)."""
        return self.labels == self.predicted

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * int(self.right.sum()) / len(self.labels)


def write_predictions(file: Path, predictions: Predictions) -> None:
    """Write the file atomically; equal predictions give equal bytes. Raises WorkError."""
    packed = io.BytesIO()
    classes = {"labels": predictions.labels, "predicted": predictions.predicted}
    np.savez_compressed(
        packed,
        allow_pickle=False,
        **{name: each.astype(np.min_scalar_type(int(each.max()))) for name, each in classes.items()},
        confidence=predictions.confidence.astype(np.float16),
        **dataclasses.asdict(predictions.images) | {"left_out": np.array(predictions.images.left_out, np.uint32)},
    )
    write_whole(file, packed.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Return the predictions in a run's folder or in a file. Raises RequestError if they cannot be read."""
    file = Path(path)
    if is_place(file) and not is_file(file):
        file = file / PREDICTIONS
    if not is_file(file):
        raise RequestError(f"{file} does not exist; save predictions by training with save_predictions=true")
    try:
        archive = io.BytesIO(read_file(file, bytes))
        if not zipfile.is_zipfile(archive):  # np.load would take it for a pickle
            raise ValueError("it is not a complete archive")
        with np.load(archive, allow_pickle=False) as entries:
            return _checked({name: entries[name] for name in entries.files})
    except UNREADABLE as error:
        raise RequestError(
            f"cannot read predictions from {file}: {type(error).__name__} {' '.join(str(error).split())[:120]}; "
            "move it away and save them again with save_predictions=true"
        ) from error


def _checked(entries: dict[str, np.ndarray]) -> Predictions:
    """Convert the entries of a file. Raises ValueError or KeyError if they are invalid."""
    labels, predicted, confidence = (entries[name] for name in ("labels", "predicted", "confidence"))
    if not labels.ndim == 1 or not labels.shape == predicted.shape == confidence.shape or not len(labels):
        raise ValueError(f"{labels.shape} labels, {predicted.shape} predictions, {confidence.shape} confidences")
    if labels.dtype.kind != "u" or predicted.dtype.kind != "u":
        raise ValueError("its classes are not unsigned integers")
    data, digest, left_out = str(entries["data"]), str(entries["digest"]), tuple(entries["left_out"].tolist())
    size, crop_ratio = int(entries["image_size"]), float(entries["crop_ratio"])
    images = EvaluatedImages(data, digest, size, crop_ratio, left_out, str(entries.get("resize", "shorter_side")))
    return Predictions(images, labels, predicted, confidence)
