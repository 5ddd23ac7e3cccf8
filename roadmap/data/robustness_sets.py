"""Robustness sets in their published layouts on disk, for evaluation only."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from roadmap.data.image_dataset import PostTransform
from roadmap.data.memory import Images
from roadmap.data.readers import FileSamples
from roadmap.data.samples import Samples, Subset
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data

CIFAR_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class Part:
    """A set of images with results of its own, opened by ``read`` and corrupted by ``corrupt``.

    ``name`` is such as "gaussian_noise/3", or empty for a whole data set. Labels are indices into the network's
    ``num_classes`` outputs. ``classes`` restricts predictions to some of these (before softmax). ``accepted`` holds the
    correct classes of each image, if there may be several.
    """

    name: str
    images: int
    num_classes: int
    read: Callable[[], Samples | Images]
    classes: tuple[int, ...] | None = None
    accepted: tuple[frozenset[int], ...] | None = None
    corrupt: PostTransform | None = None


def read_set(data: Data) -> list[Part]:
    """The parts of a set. Raises RequestError if its folder is incomplete or not in the published layout."""
    readers = {"class_folders": _class_folders, "real_labels": _real_labels}
    readers |= {"corruption_folders": _corruption_folders, "cifar_c": _cifar_c}
    parts = readers[data.source](data, Path(data.root or ""), data.num_classes or 0)
    if not parts:
        raise RequestError("data.corruptions and data.severities must not be empty")
    return parts


@cache
def imagenet_classes() -> dict[str, int]:
    """The index of each ImageNet-1K class by its WordNet id; classes are in the order of their ids."""
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").split()
    return {wnid: index for index, wnid in enumerate(lines)}


def class_files(folder: Path) -> FileSamples:
    """The images in class folders named by WordNet id, or by class index. Raises RequestError if there are none."""
    indices = imagenet_classes() | {str(index): index for index in range(1000)}
    files = make_dataset(str(folder), indices, IMG_EXTENSIONS, allow_empty=True)
    if not files:
        raise RequestError(f"no images in {folder}; it must contain class folders such as n01440764")
    names, labels = zip(*files, strict=True)
    return FileSamples("", np.array([*map(os.fsencode, names)]), np.array(labels))


def _check_count(data: Data, place: Path, images: int) -> int:
    """``images``, if the set was published with as many. Raises RequestError."""
    if data.images is not None and images != data.images:
        raise RequestError(
            f"{place} has {images:,} images, but data={data.name} was published with {data.images:,}; complete it, "
            "or accept any number with data.images=null"
        )
    return images


def _class_folders(data: Data, root: Path, num_classes: int) -> list[Part]:
    """ImageNet-A, -R, -Sketch, -V2: class folders at the root; predictions are restricted to their classes."""
    samples = class_files(root)
    present = tuple(np.unique(samples.labels).tolist())
    classes = present if len(present) < num_classes else None
    return [Part("", _check_count(data, root, len(samples.labels)), num_classes, lambda: samples, classes)]


def _corruption_folders(data: Data, root: Path, num_classes: int) -> list[Part]:
    """ImageNet-C and -C-bar: CORRUPTION/SEVERITY/CLASS folders, listed again when a part is opened."""
    parts = []
    for name, severity in _corruption_grid(data):
        folder = root / name / str(severity)
        # file names are not kept: each part has fifty thousand
        count = _check_count(data, folder, len(class_files(folder).labels))
        parts.append(Part(f"{name}/{severity}", count, num_classes, partial(class_files, folder)))
    return parts


def _corruption_grid(data: Data) -> list[tuple[str, int]]:
    return [(name, severity) for name in data.corruptions for severity in data.severities]


def _real_labels(data: Data, root: Path, num_classes: int) -> list[Part]:
    """ImageNet's validation images with the labels of ReaL, without images that have none."""
    samples, file = class_files(root / "val"), root / (data.labels_file or "")
    _check_count(data, root / "val", len(samples.labels))
    label = Annotated[int, msgspec.Meta(ge=0, lt=num_classes)]
    try:
        real = msgspec.json.decode(file.read_bytes(), type=list[list[label]])
        numbers = [int(os.fsdecode(name)[-13:-5]) for name in samples.names]  # of ILSVRC2012_val_00000293.JPEG
        accepted = [frozenset(real[number - 1]) for number in numbers]
    except (OSError, msgspec.DecodeError, RecursionError, ValueError, IndexError) as error:
        raise RequestError(
            f"{file} must be ReaL's real.json with the labels of ILSVRC2012_val_00000001.JPEG and so on ({error})"
        ) from error
    kept = [index for index, labels in enumerate(accepted) if labels]
    labels = tuple(accepted[index] for index in kept)
    return [Part("", len(kept), num_classes, lambda: Subset(samples, kept), accepted=labels)]


def _cifar_c(data: Data, root: Path, num_classes: int) -> list[Part]:
    """CIFAR-C: one array per corruption, with the test images at severities 1 to 5 in sequence."""
    labels = _array(root / "labels.npy", ())
    if len(labels) % 5 or labels.max(initial=0) >= num_classes:
        raise RequestError(f"{root / 'labels.npy'} must have labels below {num_classes} for five severities")
    count = _check_count(data, root / "labels.npy", len(labels) // 5)
    arrays = {name: _array(root / f"{name}.npy", CIFAR_SHAPE, len(labels)) for name in data.corruptions}
    return [
        Part(f"{name}/{severity}", count, num_classes, partial(_severity, arrays[name], labels, severity))
        for name, severity in _corruption_grid(data)
    ]


def _array(file: Path, shape: tuple[int, ...], count: int | None = None) -> np.ndarray:
    """A memory-mapped array of integers (count, *shape). Raises RequestError for another shape or type."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    # NumPy's message on other files suggests to allow pickles
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"cannot read {file}: it is missing or not a complete .npy array") from error
    expected = (len(array) if count is None else count, *shape)
    if array.shape != expected or array.dtype.kind not in "ui":
        raise RequestError(f"{file} has {array.dtype} {array.shape}; it must have integers {expected}")
    return array


def _severity(array: np.ndarray, labels: np.ndarray, severity: int) -> Images:
    count = len(labels) // 5
    part = slice((severity - 1) * count, severity * count)
    pixels = torch.from_numpy(np.array(array[part], np.uint8)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(np.array(labels[part], np.int64)))
