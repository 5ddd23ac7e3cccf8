"""Robustness sets from disk in the layouts that their authors hand out; they are evaluated on and never trained on."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from roadmap.data.folder import Files
from roadmap.data.memory import Images
from roadmap.data.samples import Samples, Subset
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data
from roadmap.untrusted_io import parse_json

VALIDATION_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.")
CIFAR_SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class SetPart:
    """A part of a set that ``read`` opens; ``classes`` and ``accepted`` as in ``roadmap.data.eval_splits.Part``."""

    name: str
    images: int
    read: Callable[[], Samples | Images]
    classes: tuple[int, ...] | None = None
    accepted: tuple[frozenset[int], ...] | None = None


def read_set(data: Data) -> list[SetPart]:
    """The parts of a set. Raises RequestError where its folder is not laid out as published, or not whole."""
    if data.root is None or not Path(data.root).is_dir():
        raise RequestError(
            f"data.root={data.root} is no folder; data={data.name} wants the one that it was unpacked to"
        )
    return READERS[data.source](data, Path(data.root))


@cache
def imagenet_classes() -> dict[str, int]:
    """The position of each of ImageNet-1K's classes by its WordNet id: their order is that of the ids."""
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").split()
    return {wnid: position for position, wnid in enumerate(lines)}


def class_positions(data: Data) -> dict[str, int]:
    """What class folders are called, and the network's output that each stands for."""
    if data.class_names == "numbers":
        return {str(number): number for number in range(data.num_classes or 0)}
    return imagenet_classes()


def class_files(folder: Path, positions: dict[str, int]) -> tuple[Files, set[int]]:
    """The images of the class folders in ``folder``, and the classes that there are, as positions.

    Raises RequestError for no class folders, one of an unknown name, and one without images.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise RequestError(f"cannot read folder {folder}: {error.strerror}") from error
    unknown = next((name for name in names if name not in positions), None)
    if unknown is not None or not names:
        what = f"folder {folder / unknown} is none of the classes" if unknown else f"no class folders in {folder}"
        raise RequestError(f"{what}; it wants folders called like {', '.join(list(positions)[:3])}")
    files: list[str] = []
    labels: list[int] = []
    for name in names:
        found = sorted(str(file) for file in (folder / name).iterdir() if file.suffix.lower() in IMG_EXTENSIONS)
        if not found:
            raise RequestError(f"class folder {folder / name} has no images; it wants {', '.join(IMG_EXTENSIONS[:3])}")
        files += found
        labels += [positions[name]] * len(found)
    return Files(files, labels), {positions[name] for name in names}


def _whole(data: Data, where: Path, images: int) -> int:
    if data.images is not None and images != data.images:
        raise RequestError(
            f"{where} has {images:,} images, but data={data.name} was published with {data.images:,}; complete it, "
            "or take what there is with data.images=null"
        )
    return images


def _class_folders(data: Data, root: Path) -> list[SetPart]:
    """A, R, Sketch, V2: class folders at the root; where they are not all classes, only these compete."""
    samples, there = class_files(root, class_positions(data))
    classes = tuple(sorted(there)) if len(there) < (data.num_classes or 0) else None
    return [SetPart("", _whole(data, root, len(samples.labels)), lambda: samples, classes)]


def _named(data: Data) -> list[tuple[str, int]]:
    """Each corruption at each severity."""
    for key in ("corruptions", "severities"):
        if not getattr(data, key):
            raise RequestError(f"data.{key} must not be empty")
    return [(name, severity) for name in data.corruptions for severity in data.severities]


def _corruption_folders(data: Data, root: Path) -> list[SetPart]:
    """C and C-bar: class folders in a folder a severity in a folder a corruption, read again when they are opened."""
    parts = []
    positions = class_positions(data)
    for name, severity in _named(data):
        folder = root / name / str(severity)
        if not folder.is_dir():
            raise RequestError(
                f"no folder {folder}; data.root wants {name}/{severity} with a folder a class, "
                "or choose the corruptions that are there with data.corruptions=[…]"
            )
        count = len(class_files(folder, positions)[0].labels)
        # not kept: the names of fifty thousand files a part
        parts.append(SetPart(f"{name}/{severity}", _whole(data, folder, count), partial(_samples, folder, positions)))
    return parts


def _samples(folder: Path, positions: dict[str, int]) -> Samples:
    return class_files(folder, positions)[0]


def _real_labels(data: Data, root: Path) -> list[SetPart]:
    """ImageNet's validation images that ReaL has labels for."""
    samples, _ = class_files(root / "val", class_positions(data))
    _whole(data, root / "val", len(samples.labels))
    real = _read_real(root / (data.labels_file or ""), data.num_classes or 0)
    kept, accepted = [], []
    for index in range(len(samples.labels)):
        match = VALIDATION_NUMBER.search(Path(samples.name(index)).name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(real):
            raise RequestError(
                f"{samples.name(index)} is no validation image that {data.labels_file} knows; "
                f"it wants ILSVRC2012_val_00000001 to {len(real):08d}"
            )
        if real[number - 1]:
            kept.append(index)
            accepted.append(real[number - 1])
    return [SetPart("", len(kept), lambda: Subset(samples, kept), accepted=tuple(accepted))]


def _read_real(file: Path, num_classes: int) -> list[frozenset[int]]:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {file}: {' '.join(str(error).split())}; it wants ReaL's real.json") from error
    if not isinstance(content, list) or not all(
        isinstance(labels, list) and all(type(label) is int and 0 <= label < num_classes for label in labels)
        for labels in content
    ):
        raise RequestError(f"{file} is not ReaL's real.json: that is a list of lists of classes below {num_classes}")
    return [frozenset(labels) for labels in content]


def _cifar_c(data: Data, root: Path) -> list[SetPart]:
    """CIFAR-C: an array a corruption, with the test images at severity 1 to 5 after each other."""
    labels = _array(root / "labels.npy", (), None)
    arrays = {name: _array(root / f"{name}.npy", CIFAR_SHAPE, len(labels)) for name in data.corruptions}
    if len(labels) % 5 or labels.max(initial=0) >= (data.num_classes or 0):
        raise RequestError(
            f"{root / 'labels.npy'} has {len(labels)} labels up to {labels.max(initial=0)}; data={data.name} wants "
            f"five severities of labels below {data.num_classes}"
        )
    images = _whole(data, root / "labels.npy", len(labels) // 5)
    return [
        SetPart(f"{name}/{severity}", images, partial(_block, arrays[name], labels, severity))
        for name, severity in _named(data)
    ]


def _array(file: Path, shape: tuple[int, ...], count: int | None) -> np.ndarray:
    """A mapped array of bytes (count, *shape)."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
    # numpy's own words would have it unpickled
    except (ValueError, EOFError) as error:
        raise RequestError(f"cannot read {file}: it is no whole array of numpy's .npy format") from error
    wanted = (len(array) if count is None else count, *shape)
    if array.shape != wanted or array.dtype.kind not in "ui":
        raise RequestError(f"{file} holds {array.dtype} {array.shape}; it wants whole numbers {wanted}")
    return array


def _block(array: np.ndarray, labels: np.ndarray, severity: int) -> Images:
    count = len(labels) // 5
    part = slice((severity - 1) * count, severity * count)
    pixels = torch.from_numpy(np.array(array[part], np.uint8)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(np.array(labels[part], np.int64)))


READERS: dict[str, Callable[[Data, Path], list[SetPart]]] = {
    "class_folders": _class_folders,
    "corruption_folders": _corruption_folders,
    "real_labels": _real_labels,
    "cifar_c": _cifar_c,
}
