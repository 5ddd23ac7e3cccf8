"""Batches of encoded images, decoded and augmented one by one in the worker processes of a DataLoader."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from roadmap.data.image import UndecodableError
from roadmap.data.samples import Samples, content_digest
from roadmap.errors import WorkError
from roadmap.runtime.device import available_cores
from roadmap.seeds import derived_seed

logger = logging.getLogger(__name__)

Key = tuple[int, int]  # epoch and index
# an image uint8 (3, S, S), or None if none could be read, its label, and why images could not be read, by index
LabelledImage = tuple[Tensor | None, int, dict[int, str]]
PostTransform = Callable[[Tensor, int], Tensor]  # of an image uint8 (3, S, S) and its index
CHUNK = 64  # images that a worker hands over at once, so that all workers share a large batch
MOST_WORKERS = 16  # of one process


def worker_count(num_workers: int | Literal["auto"], runs: int | Literal["auto"] = 1) -> int:
    """Return the workers of a loader. ``auto``: this process's share of the cores, without the one that trains.

    The machine is shared with the processes of torchrun, each of as many ``runs``; Slurm gives each task of a submitit
    job cores of its own.
    """
    if num_workers != "auto":
        return num_workers
    cores = available_cores()
    cores = min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK") or cores))
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        cores //= int(os.environ.get("LOCAL_WORLD_SIZE", 1)) * (1 if runs == "auto" else runs)
    return min(max(cores - 1, 0), MOST_WORKERS)


class UnreadableImages:
    """Collects the names and reasons of unreadable images in ``found``; more than ``limit`` raise WorkError."""

    def __init__(self, limit: int):
        self.limit = limit
        self.found: dict[str, str] = {}

    def add(self, found: Mapping[str, str]) -> None:
        """Record images, with a warning the first time. Raises WorkError beyond the limit."""
        for name, reason in found.items():
            if name in self.found:
                continue
            self.found[name] = reason
            if len(self.found) > self.limit:
                raise WorkError(
                    f"cannot read image {name}: {reason}; "
                    f"repair or remove it, or raise data.max_corrupt (now {self.limit})"
                )
            logger.warning(f"cannot read image {name}: {reason}; continuing without it")


class ImageDataset(Dataset[LabelledImage]):
    """Transformed images by epoch and index; random numbers depend only on seed, epoch and index.

    In training (``seed`` is given) the next readable image replaces an unreadable one, after at most ``max_corrupt``
    in a row. In evaluation an unreadable image is left out. ``post_transform`` is applied after ``transform``.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[Any], Tensor],
        seed: int | None,
        max_corrupt: int,
        post_transform: PostTransform | None,
    ):
        self.samples, self.transform, self.seed, self.post_transform = samples, transform, seed, post_transform
        self.count = len(samples.labels)
        self.attempts = 1 if seed is None else min(max_corrupt + 1, self.count)

    def __getitem__(self, key: Key) -> LabelledImage:
        epoch, first = key
        # exceptions of workers would arrive as tracebacks
        unreadable: dict[int, str] = {}
        for index in (i % self.count for i in range(first, first + self.attempts)):
            if self.seed is not None:
                # ten times as fast as torch.manual_seed, which seeds every device
                torch.default_generator.manual_seed(derived_seed(self.seed, "image", epoch, first))
            try:
                image = self.transform(self.samples.read(index))
            except (OSError, UndecodableError) as error:
                unreadable[index] = " ".join(str(error).split())
                continue
            if self.post_transform is not None:
                image = self.post_transform(image, index)
            return image, self.samples.labels[index], unreadable
        return None, 0, unreadable


def collate(items: Sequence[LabelledImage]) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Images uint8 (n, 3, S, S), labels int64 (n,) and the unreadable images."""
    readable = [(image, label) for image, label, _ in items if image is not None]
    # in a worker, default_collate writes the batch directly into shared memory; permuting keeps channels_last
    images = [image.permute(1, 2, 0) for image, _ in readable]
    pixels = default_collate(images) if images else torch.empty(0, 1, 1, 3)
    unreadable = {index: reason for *_, found in items for index, reason in found.items()}
    return pixels.permute(0, 3, 1, 2), torch.tensor([label for _, label in readable]), unreadable


def leave_process_group(worker: int) -> None:
    """Keep a loader's worker from the signals that torchrun and terminals send to the whole group of a process.

    The process needs its workers until its checkpoint is written. It ends them itself; without it they end too.
    """
    os.setpgrp()


class ImageFileBatches:
    """Batches of ``samples`` by index, on the device; unreadable images are recorded in ``corrupt``."""

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[Any], Tensor],
        corrupt: UnreadableImages,
        *,
        seed: int | None,
        num_workers: int,
        device: torch.device,
        post_transform: PostTransform | None = None,
    ):
        self.samples, self.corrupt, self.device = samples, corrupt, device
        self.unread: list[int] = []  # indices of the images that could not be read in the last call of ``batches``
        self.keys: list[list[Key]] = []  # of each chunk of the epoch, for which the workers are kept
        self.loader = DataLoader(
            ImageDataset(samples, transform, seed, corrupt.limit, post_transform),
            batch_sampler=self.keys,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=collate,
            worker_init_fn=leave_process_group,
            pin_memory=device.type == "cuda",
        )

    def __len__(self) -> int:
        return len(self.samples.labels)

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch uint8 (n, 3, H, W) with labels (n,) for each tensor of image indices.

        The workers start at once, and read a few batches ahead.
        """
        self.unread.clear()
        batches = [[chunk.tolist() for chunk in batch.split(CHUNK)] for batch in indices]
        self.keys[:] = [[(epoch, index) for index in chunk] for batch in batches for chunk in batch]
        chunks = iter(self.loader)
        return (self._assembled([next(chunks) for _ in batch]) for batch in batches)

    def _assembled(self, chunks: list[tuple[Tensor, Tensor, dict[int, str]]]) -> tuple[Tensor, Tensor]:
        for _, _, unreadable in chunks:
            self.corrupt.add({self.samples.name(index): reason for index, reason in unreadable.items()})
            self.unread += unreadable
        # a chunk without a readable image has no height and width
        parts = [chunk for chunk in chunks if len(chunk[1])] or chunks[:1]
        pixels = [images.to(self.device, non_blocking=True) for images, _, _ in parts]
        labels = [classes.to(self.device, non_blocking=True) for _, classes, _ in parts]
        return (pixels[0], labels[0]) if len(parts) == 1 else (torch.cat(pixels), torch.cat(labels))

    def digest(self) -> str:
        return content_digest(self.samples)
