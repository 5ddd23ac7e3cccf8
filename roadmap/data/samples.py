"""Labelled encoded images: the interface that every source of image files implements."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from roadmap.errors import RequestError

DIGEST_IMAGES = 100


class Samples(Protocol):
    """Images by index, cheap to copy into worker processes. ``read`` raises OSError if an image cannot be read."""

    @property
    def labels(self) -> np.ndarray:
        """The class of each image: int64 (N,)."""
        ...

    def name(self, index: int) -> str:
        """The image's file, or its position in a file."""
        ...

    def read(self, index: int) -> bytes | np.ndarray:
        """The encoded image, or its pixels uint8 (H, W, 3)."""
        ...

    def state(self) -> str:
        """A hash that changes with the images, cheap enough for the start of each run."""
        ...


def content_digest(samples: Samples) -> str:
    """SHA-256 of the labels in order and of up to 100 evenly spaced images."""
    digest, count = hashlib.sha256(samples.labels.astype("<i8").tobytes()), len(samples.labels)
    for index in range(0, count, -(-count // DIGEST_IMAGES)):
        # unreadable images are reported when they are loaded
        with suppress(OSError):
            image = samples.read(index)
            digest.update(image.tobytes() if isinstance(image, np.ndarray) else image)
    return digest.hexdigest()


class Subset:
    """The images at some ``indices``, optionally with other ``labels``."""

    def __init__(self, samples: Samples, indices: Sequence[int] | np.ndarray, labels: np.ndarray | None = None):
        self.samples, self.indices = samples, np.asarray(indices, np.int64)
        self.labels = samples.labels[self.indices] if labels is None else labels

    def name(self, index: int) -> str:
        return self.samples.name(self.indices[index])

    def read(self, index: int) -> bytes | np.ndarray:
        return self.samples.read(self.indices[index])

    def state(self) -> str:
        return hashlib.sha256(self.samples.state().encode() + self.indices.tobytes()).hexdigest()


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
        kept, out = stratified_split(self.train.labels.tolist(), share)
        return Split(Subset(self.train, kept), Subset(self.train, out), self.num_classes)

    def limited(self, count: int | None) -> "Split":
        """Train on a ``balanced_part`` of ``count`` images; None changes nothing. Raises RequestError."""
        return (
            self if count is None else replace(self, train=Subset(self.train, balanced_part(self.train.labels, count)))
        )

    def with_classes(self, count: int | None) -> "Split":
        """Keep ``count`` evenly spaced classes and renumber them; None changes nothing.

        Raises RequestError if there are fewer.
        """
        if count is None:
            return self
        if count > self.num_classes:
            raise RequestError(f"data.classes must be at most {self.num_classes} (got {count})")
        new_labels = np.full(self.num_classes, -1)
        new_labels[[new * self.num_classes // count for new in range(count)]] = range(count)
        parts = []
        for samples in (self.train, self.val):
            indices = np.flatnonzero(new_labels[samples.labels] >= 0)
            parts.append(Subset(samples, indices, new_labels[samples.labels[indices]]))
        return Split(parts[0], parts[1], count)


def stratified_split(labels: list[int], held_out: float | int) -> tuple[list[int], list[int]]:
    """Kept and held-out indices, stratified and deterministic; ``held_out`` is a share or a count.

    The only image of a class, as in ImageNet-22K, is kept.
    """
    from sklearn.model_selection import train_test_split

    counts = Counter(labels)
    several = [index for index, label in enumerate(labels) if counts[label] > 1]
    strata = [labels[index] for index in several]
    try:
        _, out = train_test_split(several, test_size=held_out, stratify=strata, random_state=0)
    except ValueError as error:
        raise RequestError(f"cannot hold out {held_out} of {len(labels)} images: {error}") from error
    return sorted({*range(len(labels))} - {*out}), sorted(out)


def balanced_part(labels: np.ndarray, count: int) -> np.ndarray:
    """The indices of ``count`` images, as many of each class as there are or one more, always the same ones.

    A larger part contains each smaller one. Where a class has too few images the others have more. Raises RequestError
    if ``count`` is larger than the number of images, or smaller than that of their classes.
    """
    classes = len(np.unique(labels))
    if not classes <= count <= len(labels):
        raise RequestError(
            f"data.train_images must be at least {classes}, one image of each class, and at most {len(labels)}, all "
            f"training images (got {count})"
        )
    # NumPy keeps what this older generator draws
    draw = np.random.RandomState(0).permutation(len(labels))
    by_class = np.lexsort((draw, labels))
    _, first, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.empty(len(labels), np.int64)  # within its class
    place[by_class] = np.arange(len(labels)) - np.repeat(first, sizes)
    return np.sort(np.lexsort((draw, place))[:count])
