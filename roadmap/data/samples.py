"""Encoded images with labels, wherever they are stored: what a source of image files must offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from roadmap.data.sampler import stratified_split
from roadmap.errors import RequestError


class Samples(Protocol):
    """Images by number; cheap to copy into worker processes. ``read`` raises OSError where one cannot be read."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image."""
        ...

    def name(self, index: int) -> str:
        """What a person would call the image: its file, or its place in one."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image."""
        ...


class Subset:
    """Some of the images, numbered anew, and their classes too where ``labels`` are given."""

    def __init__(self, whole: Samples, indices: Sequence[int], labels: Sequence[int] | None = None):
        self.whole, self.indices = whole, indices
        self.labels = [whole.labels[index] for index in indices] if labels is None else labels

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])

    def read(self, index: int) -> bytes:
        return self.whole.read(self.indices[index])


@dataclass(frozen=True)
class Split:
    """What a run trains on and what it evaluates on."""

    train: Samples
    val: Samples
    num_classes: int

    def held_out(self, share: float) -> "Split":
        """A ``share`` of the training images, stratified, in the place of the evaluation images; 0 changes nothing."""
        if not share:
            return self
        kept, out = stratified_split(list(self.train.labels), share)
        return Split(Subset(self.train, kept), Subset(self.train, out), self.num_classes)

    def with_classes(self, count: int | None) -> "Split":
        """``count`` of the classes, evenly spaced in their order and numbered anew; None changes nothing.

        Raises RequestError where there are fewer.
        """
        if count is None:
            return self
        if count > self.num_classes:
            raise RequestError(f"data.classes={count} is more than there are; choose at most {self.num_classes}")
        numbers = {number * self.num_classes // count: number for number in range(count)}
        train, val = (_of_classes(samples, numbers) for samples in (self.train, self.val))
        return Split(train, val, count)


def _of_classes(samples: Samples, numbers: dict[int, int]) -> Subset:
    indices = [index for index, label in enumerate(samples.labels) if label in numbers]
    return Subset(samples, indices, [numbers[samples.labels[index]] for index in indices])
