"""The two loaders of a run, whatever their source: uint8 batches on the device become what a network takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from roadmap.augment import BatchAugment, RandomErasing, evaluation_transform, image_transform
from roadmap.data.folder import FolderLoader, read_samples
from roadmap.data.memory import MemoryLoader, read_images
from roadmap.errors import RequestError
from roadmap.experiment import Experiment


class Source(Protocol):
    """What hands out uint8 (n, 3, S, S) and labels (n,), on the device."""

    def batches(self, epoch: int, used: int) -> Iterator[tuple[Tensor, Tensor]]: ...


class Loader:
    """Normalised float batches (n, 3, S, S) with their labels (n,); ``images`` of them in each epoch."""

    def __init__(
        self,
        source: Source,
        images: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        channels_last: bool,
        erase: RandomErasing | None = None,
    ):
        self.source, self.images, self.erase = source, images, erase
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean, device=device).view(3, 1, 1) * 255
        self.factor = 1 / (torch.tensor(std, device=device).view(3, 1, 1) * 255)

    def batches(self, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.source.batches(epoch, self.images):
            batch = (images.to(memory_format=self.memory_format) - self.mean) * self.factor
            yield batch if self.erase is None else self.erase(batch), labels


@dataclass(frozen=True)
class Loaders:
    """``train`` drops the images that do not fill an update; ``val`` has every image exactly once."""

    train: Loader
    val: Loader
    num_classes: int
    train_images: int
    val_images: int


def open_loaders(experiment: Experiment, device: torch.device) -> Loaders:
    """Open a run's data. Raises RequestError where it is missing, or smaller than one batch."""
    data, augment, size = experiment.data, experiment.recipe.augment, experiment.image_size
    crop_ratio = experiment.recipe.eval_crop_ratio
    micro, seed = experiment.micro_batch_size, experiment.seed
    train: Source
    val: Source
    if data.source == "folder":
        train_samples, val_samples, classes = read_samples(data)
        num_classes, train_images, val_images = len(classes), len(train_samples), len(val_samples)
        workers = experiment.settings.num_workers
        train = FolderLoader(
            train_samples, micro, image_transform(augment, size), shuffle_by=seed, num_workers=workers, device=device
        )
        evaluation = evaluation_transform(size, crop_ratio, augment.interpolation)
        val = FolderLoader(val_samples, micro, evaluation, shuffle_by=None, num_workers=workers, device=device)
    else:
        train_set, val_set = (images.to(device) for images in read_images(data, size))
        train_images, val_images = len(train_set), len(val_set)
        num_classes = data.num_classes or int(train_set.labels.max()) + 1
        train = MemoryLoader(train_set, micro, BatchAugment(augment, size), shuffle_by=seed)
        centre = CentreCrop(size, crop_ratio, augment.interpolation)
        val = MemoryLoader(val_set, max(micro, 256), centre, shuffle_by=None)
    if experiment.batch_size > train_images:
        raise RequestError(
            f"batch_size={experiment.batch_size} is larger than the {train_images} training images of {data.name}; "
            f"choose at most {train_images}"
        )
    used = train_images // experiment.batch_size * experiment.batch_size
    last = experiment.settings.channels_last
    erase = RandomErasing(augment.random_erasing) if augment.random_erasing else None
    return Loaders(
        Loader(train, used, data.mean, data.std, device, channels_last=last, erase=erase),
        Loader(val, val_images, data.mean, data.std, device, channels_last=last),
        num_classes,
        train_images,
        val_images,
    )


class CentreCrop:
    """A batch's shorter side resized to size / crop_ratio, then its centre: what evaluation of image files does too."""

    def __init__(self, size: int, crop_ratio: float, interpolation: str):
        self.size, self.resized, self.interpolation = size, round(size / crop_ratio), interpolation

    def __call__(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) != self.resized:
            images = F.resize(images, [self.resized], interpolation=F.InterpolationMode(self.interpolation))
        return F.center_crop(images, [self.size, self.size])
