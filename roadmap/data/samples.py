"""Labelled encoded images: the interface that every source of image files implements."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from roadmap.errors import RequestError


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
        parts = []
        for samples in (self.train, self.val):
            indices = [index for index, label in enumerate(samples.labels) if label in new_labels]
            parts.append(Subset(samples, indices, [new_labels[samples.labels[index]] for index in indices]))
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
