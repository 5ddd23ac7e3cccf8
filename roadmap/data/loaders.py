"""The loaders of a run: normalised, augmented batches from any source."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from roadmap.data.augment import BatchAugment, RandomErasing
from roadmap.data.image import EvalImageTransform, TrainImageTransform
from roadmap.data.image_dataset import ImageFileBatches
from roadmap.data.memory import InMemoryBatches, read_images
from roadmap.data.readers import read_files
from roadmap.data.sampler import DistributedBatchSampler, eval_batches
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.errors import RequestError
from roadmap.runtime.distributed import SINGLE_PROCESS, World
from roadmap.schema.experiment import MEMORY_SOURCES, Experiment
from roadmap.seeds import derived_seed

Batches = Iterator[tuple[Tensor, Tensor]]


class BatchSource(Protocol):
    """A data set that returns batches by index, on the device."""

    @property
    def unread(self) -> Sequence[int]:
        """Indices of the images that could not be read in the last call of ``batches``."""
        ...

    def __len__(self) -> int: ...

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Batches:
        """Images uint8 (n, 3, H, W) and labels (n,) for each tensor of indices."""
        ...

    def digest(self) -> str:
        """A hexadecimal hash of the images and their order, equal on every machine."""
        ...


class Normalise:
    """uint8 (n, 3, S, S) to float32, normalised with the data's mean and standard deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, *, channels_last: bool):
        self.channels_last = channels_last
        self.mean = torch.tensor(mean, device=device) * 255
        self.factor = 1 / (torch.tensor(std, device=device) * 255)

    def __call__(self, images: Tensor) -> Tensor:
        if not self.channels_last:
            images = images.contiguous().float()
            return images.sub_(self.mean.view(3, 1, 1)).mul_(self.factor.view(3, 1, 1))
        # rows of interleaved channels: three times as fast on a CPU as broadcasting over the last dimension
        count, _, height, width = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3).float()
        rows.sub_(self.mean.repeat(width)).mul_(self.factor.repeat(width))
        return rows.view(count, height, width, 3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class TrainLoader:
    """This process's micro batches of each epoch.

    Before each one, torch is seeded from the run's seed, the epoch and the micro batch's number. So everything random
    that follows (augmentation, MixUp, stochastic depth) is the same after a resume and in any process.
    """

    source: BatchSource
    share: DistributedBatchSampler
    augment: Callable[[Tensor], Tensor]  # uint8 to uint8
    normalise: Normalise
    erase: Callable[[Tensor], Tensor]

    @property
    def images(self) -> int:
        """Training images per epoch, over all processes."""
        return self.share.updates * self.share.batch_size

    def batches(self, epoch: int, first_update: int = 0) -> Batches:
        """Normalised float images (n, 3, S, S) and labels (n,), from update ``first_update`` of the epoch."""
        micro_batches = list(self.share.micro_batches(epoch, first_update))
        batches = self.source.batches(epoch, (indices for _, indices in micro_batches))
        for (number, _), (images, labels) in zip(micro_batches, batches, strict=True):
            torch.manual_seed(derived_seed(self.share.seed, "batch", epoch, number))
            yield self.erase(self.normalise(self.augment(images))), labels


@dataclass(frozen=True)
class ValLoader:
    """This process's evaluation images; over all processes, each image occurs once."""

    source: BatchSource
    indices: list[Tensor]
    crop: Callable[[Tensor], Tensor]
    normalise: Normalise

    def batches(self) -> Batches:
        """Normalised float images (n, 3, S, S) and labels (n,)."""
        for images, labels in self.source.batches(0, self.indices):
            if len(labels):
                yield self.normalise(self.crop(images)), labels

    @property
    def left_out(self) -> list[int]:
        """Indices of this process's images that could not be read in the last evaluation."""
        return list(self.source.unread)


class Timed:
    """An iterator over batches that measures ``seconds`` since its start and seconds ``waited`` for data.

    A GPU still computes while its host waits, so a wait counts only if the GPU had finished.
    """

    def __init__(self, batches: Batches, device: torch.device, seconds: float = 0.0, waited: float = 0.0):
        self.batches, self.on_gpu, self.waited = batches, device.type == "cuda", waited
        self.began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        finished = torch.cuda.current_stream().record_event() if self.on_gpu else None
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


def open_loaders(experiment: Experiment, device: torch.device, world: World = SINGLE_PROCESS) -> Loaders:
    """Open a run's data. Raises RequestError if it is missing or smaller than one batch."""
    in_memory = experiment.data.source in MEMORY_SOURCES
    corrupt = UnreadableImages(experiment.data.max_corrupt)
    train, val, num_classes = _in_memory(experiment, device) if in_memory else _image_files(experiment, device, corrupt)
    data, augment, size = experiment.data, experiment.recipe.augment, experiment.image_size
    if experiment.batch_size > len(train):
        raise RequestError(
            f"batch_size={experiment.batch_size} is larger than the {len(train)} training images of {data.name}; "
            f"choose at most {len(train)}"
        )
    micro = experiment.micro_batch_size(world.size)
    share = DistributedBatchSampler(len(train), experiment.batch_size, micro, experiment.seed, world.rank, world.size)
    indices = eval_batches(len(val), max(micro, 256) if in_memory else micro, world.rank, world.size)
    normalise = Normalise(data.mean, data.std, device, channels_last=experiment.settings.channels_last)
    erase = RandomErasing(augment.random_erasing) if augment.random_erasing else identity
    # the workers augment and crop image files
    batch_augment = BatchAugment(augment, size) if in_memory else identity
    crop = CentreCrop(size, experiment.recipe.eval_crop_ratio, augment.interpolation) if in_memory else identity
    return Loaders(
        TrainLoader(train, share, batch_augment, normalise, erase),
        ValLoader(val, indices, crop, normalise),
        num_classes,
        len(train),
        len(val),
        corrupt,
    )


def _in_memory(experiment: Experiment, device: torch.device) -> tuple[BatchSource, BatchSource, int]:
    """Training images, evaluation images and the number of classes."""
    train, val = (images.to(device) for images in read_images(experiment.data, experiment.image_size))
    num_classes = experiment.data.num_classes or int(train.labels.max()) + 1
    return InMemoryBatches(train), InMemoryBatches(val), num_classes


def _image_files(
    experiment: Experiment, device: torch.device, corrupt: UnreadableImages
) -> tuple[BatchSource, BatchSource, int]:
    """Training images, evaluation images and the number of classes."""
    augment, size = experiment.recipe.augment, experiment.image_size
    split = read_files(experiment.data)
    train_transform = TrainImageTransform(augment, size)
    eval_transform = EvalImageTransform(size, experiment.recipe.eval_crop_ratio, augment.interpolation)
    workers = experiment.settings.num_workers
    train = ImageFileBatches(
        split.train, train_transform, corrupt, seed=experiment.seed, num_workers=workers, device=device
    )
    val = ImageFileBatches(split.val, eval_transform, corrupt, seed=None, num_workers=workers, device=device)
    return train, val, split.num_classes


def identity(images: Tensor) -> Tensor:
    return images


class CentreCrop:
    """Resizes a batch's shorter side to size / crop_ratio and crops the centre, as ``EvalImageTransform`` does."""

    def __init__(self, size: int, crop_ratio: float, interpolation: str):
        self.size, self.resized, self.interpolation = size, round(size / crop_ratio), interpolation

    def __call__(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) != self.resized:
            images = F.resize(images, [self.resized], interpolation=F.InterpolationMode(self.interpolation))
        return F.center_crop(images, [self.size, self.size])
