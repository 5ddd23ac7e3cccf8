"""The two loaders of a run, whatever their source: uint8 batches on the device become what a network takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from roadmap.data.augment import BatchAugment, RandomErasing
from roadmap.data.encoded import EncodedSource
from roadmap.data.image import EvaluationImage, TrainingImage
from roadmap.data.memory import MemorySource, read_images
from roadmap.data.readers import read_files
from roadmap.data.sampler import TrainingShare, evaluation_share
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.errors import RequestError
from roadmap.runtime.distributed import ALONE, World
from roadmap.schema.experiment import MEMORY_SOURCES, Experiment
from roadmap.seeds import derived_seed

Batches = Iterator[tuple[Tensor, Tensor]]


class Source(Protocol):
    """What hands out uint8 (n, 3, H, W) and labels (n,) on the device, for each tensor of images' numbers."""

    @property
    def unread(self) -> Sequence[int]:
        """Numbers of the images that could not be read, of the batches last asked for."""
        ...

    def batches(self, epoch: int, numbers: Iterable[Tensor]) -> Batches: ...

    def digest(self) -> str:
        """What tells these images and their order from others, in hexadecimal digits; the same on every machine."""
        ...


class Normalise:
    """uint8 (n, 3, S, S) to float32 with the data's mean and standard deviation taken out."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, *, channels_last: bool):
        self.channels_last = channels_last
        self.mean = torch.tensor(mean, device=device) * 255
        self.factor = 1 / (torch.tensor(std, device=device) * 255)

    def __call__(self, images: Tensor) -> Tensor:
        if not self.channels_last:
            images = images.contiguous().float()
            return images.sub_(self.mean.view(3, 1, 1)).mul_(self.factor.view(3, 1, 1))
        # whole rows of pixels at once: three times as fast on a CPU as a broadcast over channels that lie side by side
        count, _, height, width = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3).float()
        rows.sub_(self.mean.repeat(width)).mul_(self.factor.repeat(width))
        return rows.view(count, height, width, 3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class TrainLoader:
    """This process's share of each epoch, in micro batches.

    Torch's random numbers are seeded anew before each from the run's seed, the epoch and the micro batch's number, so
    that whatever follows (augmentation, MixUp, stochastic depth) is the same after a resume, and the same for a micro
    batch whichever process takes it.
    """

    source: Source
    share: TrainingShare
    augment: Callable[[Tensor], Tensor]  # uint8 to uint8
    normalise: Normalise
    erase: Callable[[Tensor], Tensor]

    @property
    def images(self) -> int:
        """Images trained on in an epoch, over all processes."""
        return self.share.updates * self.share.batch_size

    def batches(self, epoch: int, first_update: int = 0) -> Batches:
        """Normalised float (n, 3, S, S) and labels (n,), from an update of the epoch on."""
        plan = list(self.share.micro_batches(epoch, first_update))
        batches = self.source.batches(epoch, (images for _, images in plan))
        for (number, _), (images, labels) in zip(plan, batches, strict=True):
            torch.manual_seed(derived_seed(self.share.seed, "batch", epoch, number))
            yield self.erase(self.normalise(self.augment(images))), labels


@dataclass(frozen=True)
class ValLoader:
    """This process's share of the evaluation images; over all processes each image comes once."""

    source: Source
    numbers: list[Tensor]
    crop: Callable[[Tensor], Tensor]
    normalise: Normalise

    def batches(self) -> Batches:
        """Normalised float (n, 3, S, S) and labels (n,)."""
        for images, labels in self.source.batches(0, self.numbers):
            if len(labels):
                yield self.normalise(self.crop(images)), labels

    @property
    def left_out(self) -> list[int]:
        """Numbers of this process's images that could not be read in the last evaluation."""
        return list(self.source.unread)


class Timed:
    """Batches, and the seconds since the first was asked for; ``waited`` of them the device had nothing to do.

    A GPU works while its host waits, so a wait counts only where the GPU had finished by its end.
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
    """``train`` leaves out the images that do not fill an update; ``val`` has every image exactly once."""

    train: TrainLoader
    val: ValLoader
    num_classes: int
    train_images: int
    val_images: int
    corrupt: UnreadableImages


def open_loaders(experiment: Experiment, device: torch.device, world: World = ALONE) -> Loaders:
    """Open a run's data. Raises RequestError where it is missing, or smaller than one batch."""
    in_memory = experiment.data.source in MEMORY_SOURCES
    corrupt = UnreadableImages(experiment.data.max_corrupt)
    sources = _in_memory(experiment, device) if in_memory else _encoded(experiment, device, corrupt)
    data, augment, size = experiment.data, experiment.recipe.augment, experiment.image_size
    if experiment.batch_size > sources.train_images:
        raise RequestError(
            f"batch_size={experiment.batch_size} is larger than the {sources.train_images} training images of "
            f"{data.name}; choose at most {sources.train_images}"
        )
    micro = experiment.micro_batch_size(world.size)
    share = TrainingShare(sources.train_images, experiment.batch_size, micro, experiment.seed, world.rank, world.size)
    numbers = evaluation_share(sources.val_images, max(micro, 256) if in_memory else micro, world.rank, world.size)
    normalise = Normalise(data.mean, data.std, device, channels_last=experiment.settings.channels_last)
    erase = RandomErasing(augment.random_erasing) if augment.random_erasing else as_it_is
    # image files were augmented and cropped one by one where they were decoded
    batch_augment = BatchAugment(augment, size) if in_memory else as_it_is
    crop = CentreCrop(size, experiment.recipe.eval_crop_ratio, augment.interpolation) if in_memory else as_it_is
    return Loaders(
        TrainLoader(sources.train, share, batch_augment, normalise, erase),
        ValLoader(sources.val, numbers, crop, normalise),
        sources.num_classes,
        sources.train_images,
        sources.val_images,
        corrupt,
    )


@dataclass(frozen=True)
class _Sources:
    train: Source
    val: Source
    num_classes: int
    train_images: int
    val_images: int


def _in_memory(experiment: Experiment, device: torch.device) -> _Sources:
    train, val = (images.to(device) for images in read_images(experiment.data, experiment.image_size))
    num_classes = experiment.data.num_classes or int(train.labels.max()) + 1
    return _Sources(MemorySource(train), MemorySource(val), num_classes, len(train), len(val))


def _encoded(experiment: Experiment, device: torch.device, corrupt: UnreadableImages) -> _Sources:
    data, augment, size = experiment.data, experiment.recipe.augment, experiment.image_size
    split = read_files(data)
    evaluation = EvaluationImage(size, experiment.recipe.eval_crop_ratio, augment.interpolation)
    train, val = (
        EncodedSource(
            samples,
            transform,
            corrupt,
            seed=seed,
            num_workers=experiment.settings.num_workers,
            device=device,
        )
        for samples, transform, seed in (
            (split.train, TrainingImage(augment, size), experiment.seed),
            (split.val, evaluation, None),
        )
    )
    return _Sources(train, val, split.num_classes, len(split.train.labels), len(split.val.labels))


def as_it_is(images: Tensor) -> Tensor:
    return images


class CentreCrop:
    """A batch's shorter side resized to size / crop_ratio, then its centre: what evaluation of image files does too."""

    def __init__(self, size: int, crop_ratio: float, interpolation: str):
        self.size, self.resized, self.interpolation = size, round(size / crop_ratio), interpolation

    def __call__(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) != self.resized:
            images = F.resize(images, [self.resized], interpolation=F.InterpolationMode(self.interpolation))
        return F.center_crop(images, [self.size, self.size])
