"""Batches of encoded images, decoded and augmented one by one in the worker processes of a DataLoader."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from roadmap.data.image import UndecodableError
from roadmap.data.samples import Samples
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.seeds import derived_seed

Key = tuple[int, int]  # epoch and index
PostTransform = Callable[[Tensor, int], Tensor]  # of an image uint8 (3, S, S) and its index
DIGEST_IMAGES = 100


@dataclass(frozen=True)
class UnreadableImage:
    """An image that could not be read or decoded; returned, because exceptions of workers arrive as tracebacks."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class LabelledImage:
    """An image uint8 (3, S, S), or None if none could be read, its label, and the images found unreadable."""

    image: Tensor | None
    label: int
    unreadable: tuple[UnreadableImage, ...] = ()


class ImageDataset(Dataset[LabelledImage]):
    """Transformed images by epoch and index; random numbers depend only on seed, epoch and index.

    In training (``seed`` is given) the next readable image replaces an unreadable one, after at most ``max_corrupt``
    in a row. In evaluation an unreadable image is left out. ``post_transform`` is applied after ``transform``.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[bytes], Tensor],
        seed: int | None,
        max_corrupt: int,
        post_transform: PostTransform | None = None,
    ):
        self.samples, self.transform, self.seed, self.max_corrupt = samples, transform, seed, max_corrupt
        self.post_transform = post_transform
        self.count = len(samples.labels)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Key) -> LabelledImage:
        epoch, first = key
        unreadable: list[UnreadableImage] = []
        attempts = 1 if self.seed is None else min(self.max_corrupt + 1, self.count)
        for index in (i % self.count for i in range(first, first + attempts)):
            if self.seed is not None:
                # ten times as fast as torch.manual_seed, which seeds every device
                torch.default_generator.manual_seed(derived_seed(self.seed, "image", epoch, first))
            try:
                image = self.transform(self.samples.read(index))
            except (OSError, UndecodableError) as error:
                unreadable.append(UnreadableImage(index, self.samples.name(index), " ".join(str(error).split())))
                continue
            if self.post_transform is not None:
                image = self.post_transform(image, index)
            return LabelledImage(image, self.samples.labels[index], tuple(unreadable))
        return LabelledImage(None, 0, tuple(unreadable))


def collate(items: Sequence[LabelledImage]) -> tuple[Tensor, Tensor, list[UnreadableImage]]:
    """Images uint8 (n, 3, S, S), labels int64 (n,) and the unreadable images."""
    unreadable = [one for item in items for one in item.unreadable]
    images = [item.image for item in items if item.image is not None]
    labels = [item.label for item in items if item.image is not None]
    # in a worker, default_collate writes the batch directly into shared memory; permuting keeps channels_last
    pixels = default_collate([image.permute(1, 2, 0) for image in images]) if images else torch.empty(0, 1, 1, 3)
    return pixels.permute(0, 3, 1, 2), torch.tensor(labels), unreadable


class EpochBatchSampler:
    """A batch sampler whose batches are set before each epoch; the DataLoader and its workers are kept.

    It does not refer to its owner: in a reference cycle the workers would not shut down on time.
    """

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class ImageFileBatches:
    """Batches of ``samples`` by index, on the device; unreadable images are recorded in ``corrupt``."""

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[bytes], Tensor],
        corrupt: UnreadableImages,
        *,
        seed: int | None,
        num_workers: int,
        device: torch.device,
        post_transform: PostTransform | None = None,
    ):
        self.samples, self.corrupt, self.device = samples, corrupt, device
        self.unread: list[int] = []
        self.sampler = EpochBatchSampler()
        self.loader = DataLoader(
            ImageDataset(samples, transform, seed, corrupt.limit, post_transform),
            batch_sampler=self.sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
        )

    def __len__(self) -> int:
        return len(self.samples.labels)

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch uint8 (n, 3, S, S) with labels (n,) for each tensor of image indices."""
        self.unread = []
        self.sampler.batches = [[(epoch, index) for index in batch.tolist()] for batch in indices]
        return to_device(self._readable(), self.device)

    def _readable(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, unreadable in self.loader:
            for one in unreadable:
                self.corrupt.note(one.name, one.reason)
                self.unread.append(one.index)
            yield images, labels

    def digest(self) -> str:
        """SHA-256 of the labels in order and of up to 100 evenly spaced encoded images."""
        digest = hashlib.sha256(np.asarray(self.samples.labels, "<i8").tobytes())
        for index in range(0, len(self), -(-len(self) // DIGEST_IMAGES)):
            # unreadable images are reported when they are loaded
            with suppress(OSError):
                digest.update(self.samples.read(index))
        return digest.hexdigest()


def to_device(batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches on the device; the next batch is copied to a GPU while the current one is used."""
    if device.type != "cuda":
        for images, labels in batches:
            yield images.to(device), labels.to(device)
        return
    stream = torch.cuda.Stream(device)

    def next_copied() -> tuple[Tensor, Tensor] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(stream):
            return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)

    ahead = next_copied()
    while ahead is not None:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(stream)
        for tensor in ahead:
            tensor.record_stream(computing)
        batch, ahead = ahead, next_copied()
        yield batch
