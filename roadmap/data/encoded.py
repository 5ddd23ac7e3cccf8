"""Batches of encoded images, decoded and augmented per image in worker processes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from roadmap.data.image import UndecodableError
from roadmap.data.samples import Samples
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.seeds import derived_seed

Key = tuple[int, int]  # epoch and index
Finish = Callable[[Tensor, int], Tensor]  # uint8 (3, S, S) and the image's number
DIGEST_IMAGES = 100


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read or decoded; errors of workers would arrive as tracebacks."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """An image uint8 (3, S, S) with its label, None where there is none to give, and what was found unreadable."""

    image: Tensor | None
    label: int
    unreadable: tuple[Unreadable, ...] = ()


class DecodedImages(Dataset[Any]):
    """Samples by epoch and index; the random numbers of each depend on seed, epoch and index alone.

    In training (``seed`` given) the next readable image takes the place of one that is not, up to ``max_corrupt`` of
    them in a row; in evaluation it is left out, since no image may count twice. ``finish`` is what becomes of an image
    once it is transformed, by its number.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[bytes], Tensor],
        seed: int | None,
        max_corrupt: int,
        finish: Finish | None = None,
    ):
        self.samples, self.transform, self.seed, self.max_corrupt = samples, transform, seed, max_corrupt
        self.finish = finish
        self.count = len(samples.labels)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Key) -> Sample:
        epoch, wanted = key
        unreadable: list[Unreadable] = []
        attempts = 1 if self.seed is None else min(self.max_corrupt + 1, self.count)
        for index in (i % self.count for i in range(wanted, wanted + attempts)):
            if self.seed is not None:
                # a tenth of torch.manual_seed's time, which seeds every device
                torch.default_generator.manual_seed(derived_seed(self.seed, "image", epoch, wanted))
            try:
                image = self.transform(self.samples.read(index))
            except (OSError, UndecodableError) as error:
                unreadable.append(Unreadable(index, self.samples.name(index), " ".join(str(error).split())))
                continue
            if self.finish is not None:
                image = self.finish(image, index)
            return Sample(image, self.samples.labels[index], tuple(unreadable))
        return Sample(None, 0, tuple(unreadable))


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, list[Unreadable]]:
    """uint8 (n, 3, S, S), labels int64 (n,), and what was unreadable among them."""
    unreadable = [one for sample in samples for one in sample.unreadable]
    images = [sample.image for sample in samples if sample.image is not None]
    labels = [sample.label for sample in samples if sample.image is not None]
    # default_collate writes a worker's batch into shared memory right away; images come in channels_last and stay so
    pixels = default_collate([image.permute(1, 2, 0) for image in images]) if images else torch.empty(0, 1, 1, 3)
    return pixels.permute(0, 3, 1, 2), torch.tensor(labels), unreadable


class LoadPlan:
    """The batches of the epoch to come, for which DataLoader's workers, who outlive an epoch, ask.

    It does not know its source: in a cycle of references the workers would not end when they are told to.
    """

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class EncodedSource:
    """Batches of ``samples`` on the device, by number; what cannot be read is noted in ``corrupt``."""

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[bytes], Tensor],
        corrupt: UnreadableImages,
        *,
        seed: int | None,
        num_workers: int,
        device: torch.device,
        finish: Finish | None = None,
    ):
        self.samples, self.corrupt, self.device = samples, corrupt, device
        self.unread: list[int] = []
        self.plan = LoadPlan()
        self.loader = DataLoader(
            DecodedImages(samples, transform, seed, corrupt.limit, finish),
            batch_sampler=self.plan,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
        )

    def batches(self, epoch: int, numbers: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch uint8 (n, 3, S, S) with labels (n,) for each tensor of images' numbers."""
        self.unread = []
        self.plan.batches = [[(epoch, index) for index in batch.tolist()] for batch in numbers]
        return to_device(self._checked(), self.device)

    def _checked(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, unreadable in self.loader:
            for one in unreadable:
                self.corrupt.note(one.name, one.reason)
                self.unread.append(one.index)
            yield images, labels

    def digest(self) -> str:
        """SHA-256 of the labels in their order and of up to 100 images, evenly spaced, as they are encoded."""
        count = len(self.samples.labels)
        digest = hashlib.sha256(np.asarray(self.samples.labels, "<i8").tobytes())
        for number in range(0, count, -(-count // DIGEST_IMAGES)):
            # what cannot be read is told apart elsewhere
            with suppress(OSError):
                digest.update(self.samples.read(number))
        return digest.hexdigest()


def to_device(batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches on the device; to a GPU the next one is copied while the one before is computed on."""
    if device.type != "cuda":
        for images, labels in batches:
            yield images.to(device), labels.to(device)
        return
    stream = torch.cuda.Stream(device)

    def copied() -> tuple[Tensor, Tensor] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(stream):
            return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)

    ahead = copied()
    while ahead is not None:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(stream)
        for tensor in ahead:
            tensor.record_stream(computing)
        batch, ahead = ahead, copied()
        yield batch
