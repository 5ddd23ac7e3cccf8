"""Normalised, augmented batches of a run on its device, in the same order for every source."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from roadmap.data.augment import BatchAugment, RandomErasing
from roadmap.data.image_dataset import ImageFileBatches, UnreadableImages
from roadmap.data.memory import InMemoryBatches
from roadmap.data.mixing import Mixing
from roadmap.data.randaugment_batch import chosen_of
from roadmap.seeds import derived_seed

Batches = Iterator[tuple[Tensor, Tensor]]
BatchSource = InMemoryBatches | ImageFileBatches


@dataclass(frozen=True)
class DistributedBatchSampler:
    """The micro batches of the process ``rank``.

    Each update takes the next ``batch_size`` images of the epoch's order, split into micro batches that the processes
    take in turn: with two processes and two accumulation steps, process 0 takes micro batches 0 and 2. So an update has
    the same images for any number of processes and accumulation steps. Images of an incomplete last update are dropped.
    """

    images: int
    batch_size: int
    micro_batch_size: int
    seed: int
    rank: int
    processes: int

    @property
    def updates(self) -> int:
        return self.images // self.batch_size

    @property
    def accumulation(self) -> int:
        """Micro batches of this process per update."""
        return self.batch_size // (self.micro_batch_size * self.processes)

    def order(self, epoch: int) -> Tensor:
        """The epoch's images, over all processes: int64 (updates · batch_size,)."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
        return torch.randperm(self.images, generator=generator)[: self.updates * self.batch_size]

    def numbers(self, first_update: int) -> Iterator[int]:
        """The number in the epoch, over all processes, of each of this process's micro batches."""
        per_update = self.batch_size // self.micro_batch_size
        for update in range(first_update, self.updates):
            for part in range(self.rank, per_update, self.processes):
                yield update * per_update + part

    def positions(self, number: int, group: int = 1) -> slice:
        """The places of a micro batch in the epoch's order, counted in groups of images."""
        size = self.micro_batch_size // group
        return slice(number * size, (number + 1) * size)


class Normalise:
    """uint8 or float (n, 3, S, S) of 0..255 to float32, normalised with the data's mean and standard deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, *, channels_last: bool):
        self.channels_last = channels_last
        self.mean = torch.tensor(mean, device=device) * 255
        self.factor = 1 / (torch.tensor(std, device=device) * 255)
        self.rows: tuple[Tensor, Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if not self.channels_last:
            images = images.float().contiguous()
            return images.sub_(self.mean.view(3, 1, 1)).mul_(self.factor.view(3, 1, 1))
        # rows of interleaved channels: faster on a CPU than broadcasting over the last dimension
        count, _, height, width = images.shape
        if self.rows is None or len(self.rows[0]) != 3 * width:
            self.rows = self.mean.repeat(width), self.factor.repeat(width)
        rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3).float()
        rows.sub_(self.rows[0]).mul_(self.rows[1])
        return rows.view(count, height, width, 3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class MicroBatch:
    """What a micro batch is made from: ``tensors`` on the device, of the same shapes in each micro batch.

    They are the images, int64 (n,) by index where they are in memory and else uint8 (n, 3, S, S), the labels (n,), and
    what ``Mixing``, ``RandomErasing`` and ``BatchAugment`` drew. On a CPU ``stages`` and ``erased`` say which images
    are to be computed, see ``randaugment_batch.stages``.
    """

    number: int  # in the epoch, over all processes
    tensors: tuple[Tensor, ...]
    stages: np.ndarray | None = None
    erased: np.ndarray | None = None


@dataclass(frozen=True)
class TrainLoader:
    """This process's micro batches of each epoch.

    What is drawn for an image of an epoch depends on the run's seed, the epoch and its place in the epoch's order; for
    MixUp and CutMix, on its group's. Before each micro batch, torch is seeded from the seed, the epoch and the micro
    batch's number. So everything random that follows (noise of erased boxes, stochastic depth) is the same after a
    resume and in any process.

    A CUDA graph can capture ``prepare`` and, before each replay, copy a micro batch's ``tensors`` to those captured.
    """

    source: BatchSource
    share: DistributedBatchSampler
    augment: BatchAugment | None  # of images in memory
    normalise: Normalise
    erase: RandomErasing
    mix: Mixing | None = None

    @property
    def images(self) -> int:
        """Training images per epoch, over all processes."""
        return self.share.updates * self.share.batch_size

    def batches(self, epoch: int, first_update: int = 0) -> Batches:
        """Normalised float images (n, 3, S, S) and labels (n,), from update ``first_update`` of the epoch.

        With ``mix`` the images are mixed and the labels are probabilities (n, classes). Workers that read images start
        at once, before the first batch is asked for.
        """
        return (self._prepared(epoch, each) for each in self.micro_batches(epoch, first_update))

    def inputs(self, epoch: int, first_update: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """What ``prepare`` makes these batches from; torch is seeded as for them."""
        return (self._seeded(epoch, each).tensors for each in self.micro_batches(epoch, first_update))

    def _prepared(self, epoch: int, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        return self.prepare(self._seeded(epoch, micro_batch).tensors, micro_batch)

    def _seeded(self, epoch: int, micro_batch: MicroBatch) -> MicroBatch:
        torch.manual_seed(derived_seed(self.share.seed, "batch", epoch, micro_batch.number))
        return micro_batch

    def micro_batches(self, epoch: int, first_update: int = 0) -> Iterator[MicroBatch]:
        """Draw the epoch's order and parameters, upload them, and return the part of each micro batch."""
        share, device = self.share, self.normalise.mean.device
        generator = torch.Generator().manual_seed(derived_seed(share.seed, "augment", epoch))
        boxes = self.erase.draw(self.images, generator)
        augmentation, stages = self.augment.draw(self.images, generator) if self.augment else ((), None)
        drawn = [upload(tensor, device) for tensor in (boxes, *augmentation)]
        mixing: list[Tensor] = []
        if self.mix is not None:
            mixes = self.mix.draw(self.images // self.mix.group, derived_seed(share.seed, "mix", epoch))
            mixing = [upload(tensor, device) for tensor in mixes]
        erased = boxes[:, 0, 1].numpy() >= 0
        numbers = list(share.numbers(first_update))

        def micro_batch(number: int, images: tuple[Tensor, Tensor]) -> MicroBatch:
            part = share.positions(number)
            groups = share.positions(number, self.mix.group) if self.mix else part
            tensors = (*images, *(tensor[groups] for tensor in mixing), *(tensor[part] for tensor in drawn))
            if device.type != "cpu":
                return MicroBatch(number, tensors)
            return MicroBatch(number, tensors, None if stages is None else stages[part], erased[part])

        images = self._images(epoch, numbers)
        return (micro_batch(*each) for each in zip(numbers, images, strict=True))

    def _images(self, epoch: int, numbers: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of micro batches, by index if they are to be augmented, and their labels."""
        order, parts = self.share.order(epoch), [self.share.positions(number) for number in numbers]
        if self.augment is None:
            return self.source.batches(epoch, (order[part] for part in parts))
        assert isinstance(self.source, InMemoryBatches)
        order = upload(order, self.normalise.mean.device)
        labels = self.source.images.labels[order]
        return ((order[part], labels[part]) for part in parts)

    def prepare(self, tensors: tuple[Tensor, ...], micro_batch: MicroBatch | None = None) -> tuple[Tensor, Tensor]:
        """Normalised float images (n, 3, S, S) and labels (n,) from a micro batch's tensors.

        Without ``micro_batch`` everything is computed for every image: no synchronisation with the host, and no shape
        that depends on the data. With it a CPU computes less, with the same result.
        """
        images, labels, *drawn = tensors
        mixing = [drawn.pop(0) for _ in range(3)] if self.mix else []
        boxes = drawn.pop(0)
        stages, erased = (micro_batch.stages, micro_batch.erased) if micro_batch else (None, None)
        if self.augment is not None:
            assert isinstance(self.source, InMemoryBatches)
            pixels = self.source.images.pixels.index_select(0, images)
            images = self.augment(pixels, tuple(drawn), None if stages is None else chosen_of(stages))
        chosen = None if erased is None else torch.from_numpy(np.flatnonzero(erased))
        images = self.erase(self.normalise(images), boxes, chosen)
        return (images, labels) if self.mix is None else self.mix(images, labels, (mixing[0], mixing[1], mixing[2]))


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True)
class ValLoader:
    """This process's evaluation images; over all processes, each image occurs once."""

    source: BatchSource
    indices: list[Tensor]
    normalise: Normalise
    crop: Callable[[Tensor], Tensor] | None = None

    def batches(self) -> Batches:
        """Normalised float images (n, 3, S, S) and labels (n,)."""
        for images, labels in self.source.batches(0, self.indices):
            if len(labels):
                yield self.normalise(images if self.crop is None else self.crop(images)), labels

    @property
    def left_out(self) -> list[int]:
        """Indices of this process's images that could not be read in the last evaluation."""
        return list(self.source.unread)


class Timed:
    """An iterator over batches that measures ``seconds`` since its start and seconds ``waited`` for data.

    A GPU still computes while its host waits, so a wait counts only if the GPU had finished.
    """

    def __init__(
        self, batches: Iterator[tuple[Tensor, ...]], device: torch.device, seconds: float = 0.0, waited: float = 0.0
    ):
        self.batches, self.device, self.waited = batches, device, waited
        self.began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block out of the time."""
        began = time.perf_counter()
        yield
        self.began += time.perf_counter() - began

    def __next__(self) -> tuple[Tensor, ...]:
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        finished = stream.record_event() if stream else None
        began = time.perf_counter()
        batch = next(self.batches)
        if finished is None or finished.query():
            self.waited += time.perf_counter() - began
        return batch


@dataclass(frozen=True)
class Loaders:
    """``train`` drops the images of an incomplete last update; ``val`` has every image once."""

    train: TrainLoader
    val: ValLoader
    num_classes: int
    train_images: int
    val_images: int
    corrupt: UnreadableImages
