"""The record of an evaluation: ``evaluations/KEY.json`` in the run's folder.

``KEY`` is a hash of everything that defines the result. ``KEY.npz`` holds the predictions for each image, and ``KEY/``
those for corrupted images if requested.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadmap.errors import WorkError
from roadmap.runs.records import read_json
from roadmap.runs.run_folder import write_whole
from roadmap.validation import FileRecord, Int64, converted, shown

EVALUATIONS = "evaluations"
# a part's name: empty for a whole data set, else a corruption and its severity
PART = re.compile(r"([a-z0-9_]+/[0-9]{1,9})?")
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


def record_file(run: Path, key: str) -> Path:
    """Return the path of a run's record."""
    return run / EVALUATIONS / f"{key}.json"


def read_record(file: Path) -> EvaluationRecord | None:
    """Return a record, or None if there is none or it cannot be read."""
    try:
        return whole_record(file)
    except (OSError, ValueError):
        return None


def whole_record(file: Path) -> EvaluationRecord:
    """Return a record. Raises OSError if it cannot be read, and ValueError if it is invalid."""
    record: EvaluationRecord = read_json(file)
    converted(record, Evaluation)
    return record


def write_record(file: Path, record: EvaluationRecord) -> None:
    """Write a record atomically. Raises WorkError."""
    make_folder(file.parent)
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def make_folder(folder: Path) -> None:
    """Create a folder. Raises WorkError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot create folder {folder}: {error.strerror}; choose another file with -o") from error
