"""What a trained network is evaluated on, in parts: a whole set, or each corruption at each severity."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from roadmap.data.corruptions.weather import Corrupting
from roadmap.data.encoded import EncodedSource, Finish
from roadmap.data.image import EvaluationImage
from roadmap.data.loaders import CentreCrop, Normalise, ValLoader, as_it_is
from roadmap.data.memory import Images, MemorySource, read_images
from roadmap.data.readers import read_evaluated
from roadmap.data.robustness_sets import read_set
from roadmap.data.sampler import evaluation_share
from roadmap.data.samples import Samples
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.errors import RequestError
from roadmap.runtime.distributed import ALONE, World
from roadmap.schema.corruptions import Corruptions
from roadmap.schema.eval_transform import EvalSettings
from roadmap.schema.experiment import EVALUATION_SOURCES, MEMORY_SOURCES, Data

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """Images that one figure is measured on.

    ``name`` is "gaussian_noise/3", or empty for a whole set. Labels are positions among the network's ``num_classes``.
    Where ``classes`` is given, logits of all others are left out of the competition (softmax included). Where
    ``accepted`` is given, any class of ``accepted[number]`` is right for the image of that number, and the labels are
    those of the original set. ``open`` reads or makes the images: the loader hands out normalised float (n, 3, S, S)
    with labels (n,), each image once over all processes, by number in ``loader.numbers`` but for ``loader.left_out``.
    """

    name: str
    images: int
    num_classes: int
    open: Callable[[], ValLoader]
    classes: tuple[int, ...] | None = None
    accepted: tuple[frozenset[int], ...] | None = None


def open_parts(data: Data, view: EvalSettings, world: World = ALONE, device: torch.device = CPU) -> list[Part]:
    """The parts of a data set, on a device: one of what a run would evaluate on, or those of a robustness set.

    A data set that is published cropped has a crop ratio of its own, ``data.eval_crop_ratio``, before the view's.
    Raises RequestError where the data is missing or not laid out as published.
    """
    view = _own_crop(data, view)
    if data.source not in EVALUATION_SOURCES:
        whole, num_classes = _evaluated(data, view)
        return [Part("", _count(whole), num_classes, lambda: _loader(whole, data, view, device, world))]
    return [
        Part(
            part.name,
            part.images,
            data.num_classes or 0,
            # bound now: the loop's variable is another by the time a part is opened
            lambda part=part: _loader(part.read(), data, view, device, world),  # type: ignore[misc]
            part.classes,
            part.accepted,
        )
        for part in read_set(data)
    ]


def corrupted_parts(
    data: Data, view: EvalSettings, corruptions: Corruptions, world: World = ALONE, device: torch.device = CPU
) -> list[Part]:
    """The evaluation images of a data set that a run can be trained on, in each corruption at each severity.

    Images are corrupted as the network would see them, resized and cropped, each with random numbers of its own that
    depend on the seed, its number, the corruption and the severity. Raises RequestError as ``open_parts`` does, and for
    a set that is only evaluated on.
    """
    if data.source in EVALUATION_SOURCES:
        raise RequestError(f"data={data.name} is only evaluated on as it is; choose a data set to corrupt")
    view = _own_crop(data, view)
    whole, num_classes = _evaluated(data, view)
    parts = []
    for name in corruptions.names:
        for severity in corruptions.severities:
            finish = ArrayFinish(Corrupting(corruptions, name, severity))
            parts.append(
                Part(
                    f"{name}/{severity}",
                    _count(whole),
                    num_classes,
                    lambda finish=finish: _loader(whole, data, view, device, world, finish),  # type: ignore[misc]
                )
            )
    return parts


class ArrayFinish:
    """A corruption of images uint8 (3, S, S), by their numbers."""

    def __init__(self, corrupting: Corrupting):
        self.corrupting = corrupting

    def __call__(self, image: Tensor, number: int) -> Tensor:
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(self.corrupting(pixels, number)).permute(2, 0, 1)


def _own_crop(data: Data, view: EvalSettings) -> EvalSettings:
    return view if data.eval_crop_ratio is None else view.replace(crop_ratio=data.eval_crop_ratio)


def _evaluated(data: Data, view: EvalSettings) -> tuple[Images | Samples, int]:
    """What a run on this data evaluates on, and how many classes there are."""
    if data.source in MEMORY_SOURCES:
        train, test = read_images(data, view.image_size)
        return test, data.num_classes or int(train.labels.max()) + 1
    return read_evaluated(data)


def _count(images: Images | Samples) -> int:
    return len(images.labels)


def _loader(
    whole: Images | Samples,
    data: Data,
    view: EvalSettings,
    device: torch.device,
    world: World,
    finish: Finish | None = None,
) -> ValLoader:
    # what lies in memory comes in batches of 256 at least, as in training
    batch_size = max(view.batch_size, 256) if isinstance(whole, Images) else view.batch_size
    numbers = evaluation_share(_count(whole), batch_size, world.rank, world.size)
    normalise = Normalise(view.mean, view.std, device, channels_last=view.channels_last)
    if isinstance(whole, Images):
        crop = CentreCrop(view.image_size, view.crop_ratio, view.interpolation)
        if finish is not None:
            corrupted = _corrupted(whole, numbers, crop, finish)
            return ValLoader(MemorySource(corrupted.to(device)), numbers, as_it_is, normalise)
        return ValLoader(MemorySource(whole.to(device)), numbers, crop, normalise)
    source = EncodedSource(
        whole,
        EvaluationImage(view.image_size, view.crop_ratio, view.interpolation),
        UnreadableImages(data.max_corrupt),
        seed=None,
        num_workers=view.num_workers,
        device=device,
        finish=finish,
    )
    return ValLoader(source, numbers, as_it_is, normalise)


def _corrupted(images: Images, numbers: list[Tensor], crop: CentreCrop, finish: Finish) -> Images:
    """This process's images cropped and corrupted; those of others are left black."""
    size = crop.size
    pixels = torch.zeros(len(images), 3, size, size, dtype=torch.uint8)
    for batch in numbers:
        for number, image in zip(batch.tolist(), crop(images.pixels[batch]), strict=True):
            pixels[number] = finish(image, number)
    return Images(pixels, images.labels)
