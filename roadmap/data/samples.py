"""Labelled encoded images: the interface that every source of image files implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from roadmap.data.sampler import stratified_split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


class Samples(Protocol):
    """Images by index, cheap to copy into worker processes. ``read`` raises OSError if an image cannot be read."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image."""
        ...

    def name(self, index: int) -> str:
        """The image's file, or its position in a file."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image."""
        ...


class Subset:
    """The images at some ``indices``, optionally with other ``labels``."""

    def __init__(self, samples: Samples, indices: Sequence[int], labels: Sequence[int] | None = None):
        self.samples, self.indices = samples, indices
        self.labels = [samples.labels[index] for index in indices] if labels is None else labels

    def name(self, index: int) -> str:
        return self.samples.name(self.indices[index])

    def read(self, index: int) -> bytes:
        return self.samples.read(self.indices[index])


@dataclass(frozen=True)
class Split:
    """The training and evaluation images of a data set."""

    train: Samples
    val: Samples
    num_classes: int

    def held_out(self, share: float) -> "Split":
        """A stratified ``share`` of the training images becomes the evaluation images; 0 changes nothing."""
        if not share:
            return self
        kept, out = stratified_split(list(self.train.labels), share)
        return Split(Subset(self.train, kept), Subset(self.train, out), self.num_classes)

    def with_classes(self, count: int | None) -> "Split":
        """Keep ``count`` evenly spaced classes and renumber them; None changes nothing.

        Raises RequestError if there are fewer.
        """
        if count is None:
            return self
        if count > self.num_classes:
            raise RequestError(f"data.classes must be at most {self.num_classes} (got {count})")
        new_labels = {new * self.num_classes // count: new for new in range(count)}
        train, val = (_with_labels(samples, new_labels) for samples in (self.train, self.val))
        return Split(train, val, count)


def _with_labels(samples: Samples, new_labels: dict[int, int]) -> Subset:
    indices = [index for index, label in enumerate(samples.labels) if label in new_labels]
    return Subset(samples, indices, [new_labels[samples.labels[index]] for index in indices])


def matching_files(data: Data, field: str) -> list[Path]:
    """The files in ``data.root`` that match the pattern ``data.train_files`` or ``data.val_files``, sorted.

    Raises RequestError if there is none.
    """
    pattern = getattr(data, field) or ""
    files = sorted(Path(data.root or "").glob(pattern)) if pattern else []
    if not files:
        raise RequestError(f"no file {data.root}/{pattern}; data.{field} must be a pattern that matches files")
    return files


def labelled_split(train: Samples, val: Samples, data: Data) -> Split:
    """A split with ``data.num_classes`` or the highest label + 1. Raises RequestError if a label exceeds the former."""
    highest = max(max(train.labels), max(val.labels))
    if data.num_classes is not None and highest >= data.num_classes:
        raise RequestError(f"{data.root} has label {highest}, but data.num_classes={data.num_classes}")
    return Split(train, val, data.num_classes or highest + 1)
