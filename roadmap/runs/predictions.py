"""The predictions of an evaluation for each image: ``predictions.npz``, in NumPy's format.

``labels`` and ``predicted`` are class numbers in the smallest unsigned type, in the data set's order; ``confidence`` is
the softmax probability of the predicted class as float16. ``data``, ``digest``, ``image_size``, ``crop_ratio`` and
``left_out`` identify the images.
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
# zipfile raises RuntimeError for a damaged header that seems to need a password or another compression
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class EvaluatedImages:
    """The evaluated images and their crop; two evaluations are of the same images if these are equal."""

    data: str
    digest: str  # hash of the labels and images in order
    image_size: int
    crop_ratio: float
    left_out: tuple[int, ...]  # indices of unreadable images, which have no prediction


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
    np.savez_compressed(
        packed,
        labels=_smallest(predictions.labels),
        predicted=_smallest(predictions.predicted),
        confidence=np.asarray(predictions.confidence, np.float16),
        **dataclasses.asdict(predictions.images) | {"left_out": np.array(predictions.images.left_out, np.uint32)},
    )
    write_whole(file, packed.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Return the predictions in a run's folder or in a file. Raises RequestError if they cannot be read."""
    path = Path(path)
    is_run = is_place(path) and not is_file(path)
    file = path / PREDICTIONS if is_run else path
    if not is_file(file):
        if is_run:
            raise RequestError(
                f"{path} has no {PREDICTIONS}; train it with save_predictions=true, or run its command again with that "
                "if its last checkpoint still exists"
            )
        raise RequestError(f"{file} does not exist; name a run's folder or its {PREDICTIONS}")
    try:
        archive = io.BytesIO(read_bytes(file))
        if not zipfile.is_zipfile(archive):  # np.load would take it for a pickle
            raise ValueError("it is not a complete archive")
        with np.load(archive, allow_pickle=False) as entries:
            return _checked({name: entries[name] for name in entries.files})
    except UNREADABLE as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
        raise RequestError(
            f"cannot read predictions from {file}: {reason}; "
            "move it away and save them again with save_predictions=true"
        ) from error


def _checked(entries: dict[str, np.ndarray]) -> Predictions:
    """Convert the entries of a file. Raises ValueError or KeyError if they are invalid."""
    labels, predicted, confidence = (entries[name] for name in ("labels", "predicted", "confidence"))
    if not labels.ndim == 1 or not labels.shape == predicted.shape == confidence.shape or not len(labels):
        raise ValueError(f"{labels.shape} labels, {predicted.shape} predictions, {confidence.shape} confidences")
    if labels.dtype.kind != "u" or predicted.dtype.kind != "u":
        raise ValueError("its classes are not unsigned integers")
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
