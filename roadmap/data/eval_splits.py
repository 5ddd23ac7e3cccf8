"""The parts of a data set that a network is evaluated on: the whole set, or each corruption at each severity."""

import torch

from roadmap.data.build import build_val_loader
from roadmap.data.corruptions import Corruption, frost_pictures
from roadmap.data.image_dataset import UnreadableImages
from roadmap.data.loaders import ValLoader
from roadmap.data.memory import Images, read_images
from roadmap.data.readers import read_evaluated
from roadmap.data.robustness_sets import Part, read_set
from roadmap.data.samples import Samples
from roadmap.errors import RequestError
from roadmap.runtime.distributed import World
from roadmap.schema.corruptions import Corruptions
from roadmap.schema.experiment import EVALUATION_SOURCES, MEMORY_SOURCES, Data, EvalSettings


def eval_parts(data: Data, image_size: int, corruptions: Corruptions | None = None) -> list[Part]:
    """The evaluation images of a training set, also with each of ``corruptions``; or the parts of a robustness set.

    Images are corrupted after resizing and cropping. Random numbers depend only on the seed, the image's index, the
    corruption and the severity. Raises RequestError if the data is missing, not in its published layout, or a
    robustness set to be corrupted.
    """
    if data.source in EVALUATION_SOURCES:
        if corruptions is not None:
            raise RequestError(f"data={data.name} is a robustness set and cannot be corrupted; choose another data set")
        return read_set(data)
    images: Images | Samples
    if data.source in MEMORY_SOURCES:
        train, images = read_images(data, image_size)
        num_classes = data.num_classes or int(train.labels.max()) + 1
    else:
        images, num_classes = read_evaluated(data)
    count = len(images.labels)
    parts = [Part("", count, num_classes, lambda: images)]
    if corruptions is None:
        return parts
    if "frost" in corruptions.names:
        frost_pictures(corruptions.frost, 1.0)
    for name in corruptions.names:
        for severity in corruptions.severities:
            corrupt = Corruption(corruptions, name, severity)
            parts.append(Part(f"{name}/{severity}", count, num_classes, lambda: images, corrupt=corrupt))
    return parts


def open_part(part: Part, settings: EvalSettings, max_corrupt: int, world: World, device: torch.device) -> ValLoader:
    """The loader of a part: each image occurs once over all processes, except those in ``loader.left_out``."""
    return build_val_loader(part.read(), settings, UnreadableImages(max_corrupt), device, world, part.corrupt)
