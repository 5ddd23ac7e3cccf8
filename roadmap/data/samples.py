"""Encoded images with labels, wherever they are stored: what a source of image files must offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from roadmap.data.order import stratified_split


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
    """Some of the images, numbered anew."""

    def __init__(self, whole: Samples, indices: Sequence[int]):
        self.whole, self.indices = whole, indices
        self.labels = [whole.labels[index] for index in indices]

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
