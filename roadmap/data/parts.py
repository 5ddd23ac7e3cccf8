"""What a trained network is evaluated on, in parts: a whole set, or each corruption at each severity."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from roadmap.corruptions import Corruptions
from roadmap.data.loaders import ValLoader
from roadmap.distributed import ALONE, World
from roadmap.experiment import Data


@dataclass(frozen=True)
class View:
    """How images are shown to a network, which is the network's own affair: what it was trained to see, and where.

    ``mean`` and ``std`` normalise values scaled to 0..1. A data set that is published cropped has its own crop ratio
    (``data.eval_crop_ratio``), which goes before this one.
    """

    image_size: int
    crop_ratio: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_size: int
    num_workers: int
    channels_last: bool
    device: torch.device


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


def open_parts(data: Data, view: View, world: World = ALONE) -> list[Part]:
    """The parts of a data set: one of what a run would evaluate on, or those of a robustness set.

    Raises RequestError where the data is missing or not laid out as published.
    """
    raise NotImplementedError


def corrupted_parts(data: Data, view: View, corruptions: Corruptions, world: World = ALONE) -> list[Part]:
    """The evaluation images of a data set that a run can be trained on, in each corruption at each severity.

    Images are corrupted as the network would see them, resized and cropped, each with random numbers of its own that
    depend on the seed, its number, the corruption and the severity. Raises RequestError as ``open_parts`` does, and for
    a set that is only evaluated on.
    """
    raise NotImplementedError
