"""Open a run's data set and build its loaders."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from roadmap.data.augment import BatchAugment, RandomErasing
from roadmap.data.image import EvalImageTransform, TrainImageTransform, eval_crop
from roadmap.data.image_dataset import ImageFileBatches, PostTransform, UnreadableImages, worker_count
from roadmap.data.loaders import BatchSource, DistributedBatchSampler, Loaders, Normalise, TrainLoader, ValLoader
from roadmap.data.memory import Images, InMemoryBatches, decoded_images, shared_images
from roadmap.data.mixing import Mixing
from roadmap.data.readers import read_files
from roadmap.data.samples import Samples
from roadmap.errors import RequestError
from roadmap.runtime.distributed import SINGLE_PROCESS, World
from roadmap.schema.experiment import MEMORY_SOURCES, EvalSettings, Experiment

T = TypeVar("T")


def open_loaders(experiment: Experiment, device: torch.device, world: World = SINGLE_PROCESS) -> Loaders:
    """Open a run's data. Raises RequestError if it is missing or smaller than one batch."""
    corrupt = UnreadableImages(experiment.data.max_corrupt)
    train, val, num_classes = read_data(experiment, device, world, corrupt)
    train_loader = build_train_loader(experiment, train, num_classes, corrupt, device, world)
    settings = EvalSettings.of(
        experiment.recipe,
        experiment.data,
        image_size=experiment.image_size,
        precision=experiment.precision,
        channels_last=experiment.settings.channels_last,
        num_workers=run_worker_count(experiment),
        batch_size=train_loader.share.micro_batch_size,
    )
    val_loader = build_val_loader(val, settings, corrupt, device, world)
    return Loaders(train_loader, val_loader, num_classes, len(train.labels), len(val.labels), corrupt)


def run_worker_count(experiment: Experiment) -> int:
    return worker_count(experiment.settings.num_workers, experiment.settings.workers)


def read_data(
    experiment: Experiment, device: torch.device, world: World, corrupt: UnreadableImages
) -> tuple[Images | Samples, Images | Samples, int]:
    """Training and evaluation images of a run, in memory or in files, and the number of classes."""
    data, settings = experiment.data, experiment.settings
    if data.source in MEMORY_SOURCES:
        train, val = main_first(world, lambda: shared_images(data, experiment.image_size, device))
        return train, val, data.num_classes or int(train.labels.max()) + 1
    split = main_first(world, lambda: read_files(data))
    if not experiment.in_memory:
        return split.train, split.val, split.num_classes
    # all cores: nothing else is done meanwhile, and the other processes of this machine wait
    workers = run_worker_count(experiment) + (settings.num_workers == "auto")
    workers *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    train, val = main_first(world, lambda: decoded_images(experiment, split, device, workers, corrupt))
    return train, val, split.num_classes


def main_first(world: World, read: Callable[[], T]) -> T:
    """Return what each process reads, the main process first: it fills caches and downloads for the others."""
    if not torch.distributed.is_initialized():
        return read()
    for main in (True, False):
        with world.collective_errors():
            if world.is_main is main:
                found = read()
    return found


def build_train_loader(
    experiment: Experiment,
    images: Images | Samples,
    num_classes: int,
    corrupt: UnreadableImages,
    device: torch.device,
    world: World,
) -> TrainLoader:
    """Raises RequestError if there are fewer images than in a batch."""
    data, recipe, size, count = experiment.data, experiment.recipe, experiment.image_size, len(images.labels)
    if experiment.batch_size > count:
        raise RequestError(
            f"batch_size={experiment.batch_size} is larger than the {count} training images of {data.name}; "
            f"choose at most {count}"
        )
    source: BatchSource
    augment: BatchAugment | None = None
    if isinstance(images, Images):
        height, width = images.pixels.shape[-2:]
        augment = BatchAugment(recipe.augment, size, (height, width), data.mean, device)
        source = InMemoryBatches(images)
    else:
        transform, workers = TrainImageTransform(recipe.augment, size, data.mean), run_worker_count(experiment)
        source = ImageFileBatches(images, transform, corrupt, seed=experiment.seed, num_workers=workers, device=device)
    micro = experiment.micro_batch_size(world.size)
    return TrainLoader(
        source,
        DistributedBatchSampler(count, experiment.batch_size, micro, experiment.seed, world.rank, world.size),
        augment,
        Normalise(data.mean, data.std, device, channels_last=experiment.settings.channels_last),
        RandomErasing(recipe.augment.random_erasing, size, device),
        Mixing(recipe.augment, experiment.batch_norm_images, num_classes, size) if recipe.augment.mixes else None,
    )


def build_val_loader(
    images: Images | Samples,
    settings: EvalSettings,
    corrupt: UnreadableImages,
    device: torch.device,
    world: World,
    post_transform: PostTransform | None = None,
) -> ValLoader:
    """This process's share of ``images``, resized and cropped, then transformed by ``post_transform``."""
    count, processes = len(images.labels), world.size
    begin, end = count * world.rank // processes, count * (world.rank + 1) // processes
    normalise = Normalise(settings.mean, settings.std, device, channels_last=settings.channels_last)
    if isinstance(images, Images):
        unreadable = [index for index in images.unreadable if begin <= index < end]
        own = torch.tensor([index for index in range(begin, end) if index not in unreadable], dtype=torch.int64)
        indices = batches_of(own, max(settings.batch_size, 256))
        crop = eval_crop(settings) if images.files is None else None
        if post_transform is not None:
            images, crop = _transformed(images, indices, crop, post_transform), None
        in_memory = InMemoryBatches(images.to(device))
        in_memory.unread = unreadable
        return ValLoader(in_memory, indices, normalise, crop)
    files = ImageFileBatches(
        images,
        EvalImageTransform(settings),
        corrupt,
        seed=None,
        num_workers=worker_count(settings.num_workers),
        device=device,
        post_transform=post_transform,
    )
    return ValLoader(files, batches_of(torch.arange(begin, end), settings.batch_size), normalise)


def batches_of(indices: Tensor, batch_size: int) -> list[Tensor]:
    return list(indices.split(batch_size)) if len(indices) else []


def _transformed(
    images: Images, indices: list[Tensor], crop: Callable[[Tensor], Tensor] | None, transform: PostTransform
) -> Images:
    """Crop and transform this process's images; those of other processes are black."""
    crop = crop or torch.nn.Identity()
    pixels = torch.zeros_like(crop(images.pixels[:1])).repeat(len(images), 1, 1, 1)
    for batch in indices:
        for index, image in zip(batch.tolist(), crop(images.pixels[batch]), strict=True):
            pixels[index] = transform(image, index)
    return replace(images, pixels=pixels)
