"""What a network predicted for each image of one evaluation, as one file: ``predictions.npz``, NumPy's own format.

One entry an image, in the data set's order: ``labels`` and ``predicted``, class numbers in the smallest unsigned type
that holds them, and ``confidence``, float16, the softmax's probability of the predicted class. Beside them what says
which images these are: ``data``, ``digest``, ``image_size``, ``crop_ratio`` and ``left_out``.
"""

import dataclasses
import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from roadmap.errors import RequestError
from roadmap.runs.records import is_file, is_place, read_bytes
from roadmap.runs.run_folder import write_whole

PREDICTIONS = "predictions.npz"
# zipfile raises RuntimeError for a damaged head that seems to ask for a password or another compression
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class EvaluatedImages:
    """Which images were evaluated, and how they were cut: two evaluations are of the same images if these are equal."""

    data: str
    digest: str  # of labels and images in their order
    image_size: int
    crop_ratio: float
    left_out: tuple[int, ...]  # numbers of images that could not be read; they have no prediction


@dataclass(frozen=True, eq=False)
class Predictions:
    """``labels``, ``predicted`` (n,) whole numbers and ``confidence`` (n,) from 0 to 1, of the n images evaluated."""

    images: EvaluatedImages
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each image's prediction is its label, bool (n,)."""
        return self.labels == self.predicted

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * int(self.right.sum()) / len(self.labels)


def write_predictions(file: Path, predictions: Predictions) -> None:
    """Write the file whole or not at all; the same predictions give the same bytes. Raises WorkError."""
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        labels=_smallest(predictions.labels),
        predicted=_smallest(predictions.predicted),
        confidence=np.asarray(predictions.confidence, np.float16),
        **dataclasses.asdict(predictions.images) | {"left_out": np.array(predictions.images.left_out, np.uint32)},
    )
    write_whole(file, packed.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """The predictions of a run's folder, or of a file. Raises RequestError where there are none to be read."""
    path = Path(path)
    is_run = is_place(path) and not is_file(path)
    file = path / PREDICTIONS if is_run else path
    if not is_file(file):
        if is_run:
            raise RequestError(
                f"{path} has no {PREDICTIONS}; train it with save_predictions=true, "
                "or start its command again with that while its last checkpoint is there"
            )
        raise RequestError(f"no file {file}; it wants a run's folder or its {PREDICTIONS}")
    try:
        archive = io.BytesIO(read_bytes(file))
        if not zipfile.is_zipfile(archive):  # np.load would take it for a pickle
            raise ValueError("it is no whole archive")
        with np.load(archive, allow_pickle=False) as entries:
            return _checked({name: entries[name] for name in entries.files})
    except UNREADABLE as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
        raise RequestError(
            f"cannot read predictions from {file}: {reason}; "
            "move it away and save them again with save_predictions=true"
        ) from error


def _checked(entries: dict[str, np.ndarray]) -> Predictions:
    """Raises ValueError or KeyError for entries that are not those of a whole file."""
    labels, predicted, confidence = (entries[name] for name in ("labels", "predicted", "confidence"))
    if not labels.ndim == 1 or not labels.shape == predicted.shape == confidence.shape or not len(labels):
        raise ValueError(f"{labels.shape} labels, {predicted.shape} predictions, {confidence.shape} confidences")
    if labels.dtype.kind != "u" or predicted.dtype.kind != "u":
        raise ValueError("its classes are no whole numbers")
    images = EvaluatedImages(
        data=str(entries["data"]),
        digest=str(entries["digest"]),
        image_size=int(entries["image_size"]),
        crop_ratio=float(entries["crop_ratio"]),
        left_out=tuple(entries["left_out"].tolist()),
    )
    return Predictions(images, labels, predicted, confidence)


def _smallest(numbers: ArrayLike) -> np.ndarray[Any, Any]:
    array = np.asarray(numbers)
    return array.astype(np.min_scalar_type(int(array.max())))
