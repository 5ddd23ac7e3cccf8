"""Robustness sets in their published layouts on disk, for evaluation only."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from roadmap.data.folder import FileSamples
from roadmap.data.memory import Images
from roadmap.data.samples import Samples, Subset
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data
from roadmap.untrusted_io import parse_json

VALIDATION_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.")
CIFAR_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class RobustnessPart:
    """A part of a set, opened by ``read``; ``classes`` and ``accepted`` as in ``roadmap.data.eval_splits.Part``."""

    name: str
    images: int
    read: Callable[[], Samples | Images]
    classes: tuple[int, ...] | None = None
    accepted: tuple[frozenset[int], ...] | None = None


def read_set(data: Data) -> list[RobustnessPart]:
    """The parts of a set. Raises RequestError if its folder is incomplete or not in the published layout."""
    if data.root is None or not Path(data.root).is_dir():
        raise RequestError(f"data.root={data.root} is not a folder; it must be the unpacked {data.name}")
    return READERS[data.source](data, Path(data.root))


@cache
def imagenet_classes() -> dict[str, int]:
    """The index of each ImageNet-1K class by its WordNet id; classes are in the order of their ids."""
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").split()
    return {wnid: index for index, wnid in enumerate(lines)}


def class_indices(data: Data) -> dict[str, int]:
    """The network's output for each name of a class folder."""
    if data.class_names == "numbers":
        return {str(number): number for number in range(data.num_classes or 0)}
    return imagenet_classes()


def class_files(folder: Path, indices: dict[str, int]) -> tuple[FileSamples, set[int]]:
    """The images in the class folders of ``folder``, and the classes present.

    Raises RequestError without class folders, and for an unknown or empty one.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise RequestError(f"cannot read folder {folder}: {error.strerror}") from error
    unknown = next((name for name in names if name not in indices), None)
    if unknown is not None or not names:
        what = f"unknown class folder {folder / unknown}" if unknown else f"no class folders in {folder}"
        raise RequestError(f"{what}; names must be such as {', '.join(list(indices)[:3])}")
    files: list[str] = []
    labels: list[int] = []
    for name in names:
        found = sorted(str(file) for file in (folder / name).iterdir() if file.suffix.lower() in IMG_EXTENSIONS)
        if not found:
            raise RequestError(f"class folder {folder / name} has no images ({', '.join(IMG_EXTENSIONS[:3])}, …)")
        files += found
        labels += [indices[name]] * len(found)
    return FileSamples(files, labels), {indices[name] for name in names}


def _check_count(data: Data, place: Path, images: int) -> int:
    """``images``, if the set was published with as many. Raises RequestError."""
    if data.images is not None and images != data.images:
        raise RequestError(
            f"{place} has {images:,} images, but data={data.name} was published with {data.images:,}; complete it, "
            "or accept any number with data.images=null"
        )
    return images


def _class_folders(data: Data, root: Path) -> list[RobustnessPart]:
    """ImageNet-A, -R, -Sketch, -V2: class folders at the root; predictions are restricted to their classes."""
    samples, present = class_files(root, class_indices(data))
    classes = tuple(sorted(present)) if len(present) < (data.num_classes or 0) else None
    return [RobustnessPart("", _check_count(data, root, len(samples.labels)), lambda: samples, classes)]


def _corruption_grid(data: Data) -> list[tuple[str, int]]:
    """Each corruption at each severity."""
    for key in ("corruptions", "severities"):
        if not getattr(data, key):
            raise RequestError(f"data.{key} must not be empty")
    return [(name, severity) for name in data.corruptions for severity in data.severities]


def _corruption_folders(data: Data, root: Path) -> list[RobustnessPart]:
    """ImageNet-C and -C-bar: CORRUPTION/SEVERITY/CLASS folders, listed again when a part is opened."""
    parts = []
    indices = class_indices(data)
    for name, severity in _corruption_grid(data):
        folder = root / name / str(severity)
        if not folder.is_dir():
            raise RequestError(
                f"no folder {folder}; data.root must contain {name}/{severity} with one folder per class, "
                "or choose other corruptions with data.corruptions=[…]"
            )
        count = len(class_files(folder, indices)[0].labels)
        # file names are not kept: each part has fifty thousand
        parts.append(
            RobustnessPart(f"{name}/{severity}", _check_count(data, folder, count), partial(_samples, folder, indices))
        )
    return parts


def _samples(folder: Path, indices: dict[str, int]) -> Samples:
    return class_files(folder, indices)[0]


def _real_labels(data: Data, root: Path) -> list[RobustnessPart]:
    """ImageNet's validation images with the labels of ReaL, without images that have none."""
    samples, _ = class_files(root / "val", class_indices(data))
    _check_count(data, root / "val", len(samples.labels))
    real = _read_real(root / (data.labels_file or ""), data.num_classes or 0)
    kept, accepted = [], []
    for index in range(len(samples.labels)):
        match = VALIDATION_NUMBER.search(Path(samples.name(index)).name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(real):
            raise RequestError(
                f"{samples.name(index)} is not in {data.labels_file}; "
                f"names must be ILSVRC2012_val_00000001 to ILSVRC2012_val_{len(real):08d}"
            )
        if real[number - 1]:
            kept.append(index)
            accepted.append(real[number - 1])
    return [RobustnessPart("", len(kept), lambda: Subset(samples, kept), accepted=tuple(accepted))]


def _read_real(file: Path, num_classes: int) -> list[frozenset[int]]:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot read {file}: {' '.join(str(error).split())}; it must be ReaL's real.json"
        ) from error
    if not isinstance(content, list) or not all(
        isinstance(labels, list) and all(type(label) is int and 0 <= label < num_classes for label in labels)
        for labels in content
    ):
        raise RequestError(f"{file} must be ReaL's real.json: a list of lists of classes below {num_classes}")
    return [frozenset(labels) for labels in content]


def _cifar_c(data: Data, root: Path) -> list[RobustnessPart]:
    """CIFAR-C: one array per corruption, with the test images at severities 1 to 5 in sequence."""
    labels = _array(root / "labels.npy", (), None)
    arrays = {name: _array(root / f"{name}.npy", CIFAR_SHAPE, len(labels)) for name in data.corruptions}
    if len(labels) % 5 or labels.max(initial=0) >= (data.num_classes or 0):
        raise RequestError(
            f"{root / 'labels.npy'} has {len(labels)} labels up to {labels.max(initial=0)}; data={data.name} "
            f"requires labels below {data.num_classes} for five severities"
        )
    images = _check_count(data, root / "labels.npy", len(labels) // 5)
    return [
        RobustnessPart(f"{name}/{severity}", images, partial(_severity, arrays[name], labels, severity))
        for name, severity in _corruption_grid(data)
    ]


def _array(file: Path, shape: tuple[int, ...], count: int | None) -> np.ndarray:
    """A memory-mapped array of integers (count, *shape). Raises RequestError for another shape or type."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
    # NumPy's message suggests to allow pickles
    except (ValueError, EOFError) as error:
        raise RequestError(f"cannot read {file}: it is not a complete .npy array") from error
    expected = (len(array) if count is None else count, *shape)
    if array.shape != expected or array.dtype.kind not in "ui":
        raise RequestError(f"{file} has {array.dtype} {array.shape}; it must have integers {expected}")
    return array


def _severity(array: np.ndarray, labels: np.ndarray, severity: int) -> Images:
    count = len(labels) // 5
    part = slice((severity - 1) * count, severity * count)
    pixels = torch.from_numpy(np.array(array[part], np.uint8)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(np.array(labels[part], np.int64)))


READERS: dict[str, Callable[[Data, Path], list[RobustnessPart]]] = {
    "class_folders": _class_folders,
    "corruption_folders": _corruption_folders,
    "real_labels": _real_labels,
    "cifar_c": _cifar_c,
}
