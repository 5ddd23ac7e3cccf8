"""The parts of a data set that a network is evaluated on: the whole set, or each corruption at each severity."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from roadmap.data.corruptions.weather import Corruption
from roadmap.data.image import EvalImageTransform
from roadmap.data.image_dataset import ImageFileBatches, PostTransform
from roadmap.data.loaders import CentreCrop, Normalise, ValLoader, identity
from roadmap.data.memory import Images, InMemoryBatches, read_images
from roadmap.data.readers import read_evaluated
from roadmap.data.robustness_sets import read_set
from roadmap.data.sampler import eval_batches
from roadmap.data.samples import Samples
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.errors import RequestError
from roadmap.runtime.distributed import SINGLE_PROCESS, World
from roadmap.schema.corruptions import Corruptions
from roadmap.schema.eval_transform import EvalSettings
from roadmap.schema.experiment import EVALUATION_SOURCES, MEMORY_SOURCES, Data

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """A set of images with results of its own.

    ``name`` is such as "gaussian_noise/3", or empty for a whole data set. Labels are indices into the network's
    ``num_classes`` outputs. ``classes`` restricts predictions to some of these (before softmax). ``accepted`` holds the
    correct classes of each image, if there may be several. ``open`` returns the loader: each image occurs once over all
    processes, in the order of ``loader.indices``, except those in ``loader.left_out``.
    """

    name: str
    images: int
    num_classes: int
    open: Callable[[], ValLoader]
    classes: tuple[int, ...] | None = None
    accepted: tuple[frozenset[int], ...] | None = None


def open_parts(
    data: Data, settings: EvalSettings, world: World = SINGLE_PROCESS, device: torch.device = CPU
) -> list[Part]:
    """The parts of a data set: the evaluation images of a training set, or the parts of a robustness set.

    ``data.eval_crop_ratio`` takes precedence over the settings' crop ratio. Raises RequestError if the data is missing
    or not in its published layout.
    """
    settings = _with_own_crop(data, settings)
    if data.source not in EVALUATION_SOURCES:
        images, num_classes = _eval_images(data, settings)
        return [Part("", len(images.labels), num_classes, lambda: _loader(images, data, settings, device, world))]
    return [
        Part(
            part.name,
            part.images,
            data.num_classes or 0,
            # a default argument, because the loop variable changes before a part is opened
            lambda part=part: _loader(part.read(), data, settings, device, world),  # type: ignore[misc]
            part.classes,
            part.accepted,
        )
        for part in read_set(data)
    ]


def corrupted_parts(
    data: Data,
    settings: EvalSettings,
    corruptions: Corruptions,
    world: World = SINGLE_PROCESS,
    device: torch.device = CPU,
) -> list[Part]:
    """One part per corruption and severity, of a training set's evaluation images.

    Images are corrupted after resizing and cropping. Random numbers depend only on the seed, the image's index, the
    corruption and the severity. Raises RequestError if the data is missing or is a robustness set.
    """
    if data.source in EVALUATION_SOURCES:
        raise RequestError(f"data={data.name} is a robustness set and cannot be corrupted; choose another data set")
    settings = _with_own_crop(data, settings)
    images, num_classes = _eval_images(data, settings)
    parts = []
    for name in corruptions.names:
        for severity in corruptions.severities:
            transform = CorruptionTransform(Corruption(corruptions, name, severity))
            loader = partial(_loader, images, data, settings, device, world, transform)
            parts.append(Part(f"{name}/{severity}", len(images.labels), num_classes, loader))
    return parts


class CorruptionTransform:
    """Corrupts an image uint8 (3, S, S), given its index."""

    def __init__(self, corruption: Corruption):
        self.corruption = corruption

    def __call__(self, image: Tensor, index: int) -> Tensor:
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(self.corruption(pixels, index)).permute(2, 0, 1)


def _with_own_crop(data: Data, settings: EvalSettings) -> EvalSettings:
    return settings if data.eval_crop_ratio is None else settings.replace(crop_ratio=data.eval_crop_ratio)


def _eval_images(data: Data, settings: EvalSettings) -> tuple[Images | Samples, int]:
    """The evaluation images and the number of classes."""
    if data.source in MEMORY_SOURCES:
        train, test = read_images(data, settings.image_size)
        return test, data.num_classes or int(train.labels.max()) + 1
    return read_evaluated(data)


def _loader(
    images: Images | Samples,
    data: Data,
    settings: EvalSettings,
    device: torch.device,
    world: World,
    post_transform: PostTransform | None = None,
) -> ValLoader:
    # as in training, batches of images in memory have at least 256
    batch_size = max(settings.batch_size, 256) if isinstance(images, Images) else settings.batch_size
    indices = eval_batches(len(images.labels), batch_size, world.rank, world.size)
    normalise = Normalise(settings.mean, settings.std, device, channels_last=settings.channels_last)
    transform = (settings.image_size, settings.crop_ratio, settings.interpolation)
    if isinstance(images, Images):
        crop: Callable[[Tensor], Tensor] = CentreCrop(*transform)
        if post_transform is not None:
            images, crop = _transformed(images, indices, CentreCrop(*transform), post_transform), identity
        return ValLoader(InMemoryBatches(images.to(device)), indices, crop, normalise)
    source = ImageFileBatches(
        images,
        EvalImageTransform(*transform),
        UnreadableImages(data.max_corrupt),
        seed=None,
        num_workers=settings.num_workers,
        device=device,
        post_transform=post_transform,
    )
    return ValLoader(source, indices, identity, normalise)


def _transformed(images: Images, indices: list[Tensor], crop: CentreCrop, post_transform: PostTransform) -> Images:
    """Crop and transform this process's images; those of other processes are black."""
    pixels = torch.zeros(len(images), 3, crop.size, crop.size, dtype=torch.uint8)
    for batch in indices:
        for index, image in zip(batch.tolist(), crop(images.pixels[batch]), strict=True):
            pixels[index] = post_transform(image, index)
    return Images(pixels, images.labels)
