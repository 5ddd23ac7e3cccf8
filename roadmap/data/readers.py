"""The readers of images by source; those of class folders, ``root/train/CLASS/*.jpg``, and of torchvision's sets."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets
from PIL import Image
from torchvision.datasets import ImageFolder

from roadmap.data.archives import read_parquet, read_shards
from roadmap.data.cache import Cached, Target, cached, files_state
from roadmap.data.samples import Samples, Split, Subset, content_digest, stratified_split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data
from roadmap.schema.torchvision_sets import torchvision_set


def read_files(data: Data) -> Split:
    """Training and evaluation images of a data set. Raises RequestError if they are missing or inconsistent."""
    readers = {"folder": read_folder, "parquet": read_parquet, "webdataset": read_shards}
    reader = (readers | {"torchvision": read_torchvision})[data.source]
    return reader(data).with_classes(data.classes).held_out(data.holdout).limited(data.train_images)


def read_evaluated(data: Data) -> tuple[Samples, int]:
    """The evaluation images of a data set and its number of classes; class folders need only ``val/``."""
    if data.source == "folder" and not data.holdout and not (Path(data.root or "") / "train").is_dir():
        split = read_folder(data, train="val").with_classes(data.classes)
    else:
        split = read_files(data)
    return split.val, split.num_classes


STATE_FILES = 10_000


class FileSamples:
    """Image files below ``root``. Their names are an array of bytes because workers would copy each string of a list.

    ``folders`` are those that were listed.
    """

    def __init__(self, root: str | Path, names: np.ndarray, labels: np.ndarray, folders: np.ndarray | None = None):
        self.root, self.names, self.labels = os.fsencode(root), names, labels
        self.folders = np.array([b"."]) if folders is None else folders

    def file(self, index: int) -> bytes:
        return os.path.join(self.root, self.names[index])

    def name(self, index: int) -> str:
        return os.fsdecode(self.file(index))

    def read(self, index: int) -> bytes:
        with open(self.file(index), "rb", buffering=0) as file:
            return file.read()

    def state(self) -> str:
        """A hash of the names, the folders' times, and sizes and times of up to 10,000 evenly spaced files."""
        indices = range(0, len(self.names), -(-len(self.names) // STATE_FILES))
        found = folders_state(self.root, self.folders) + files_state(map(self.file, indices))
        return hashlib.sha256(found.encode() + np.ascontiguousarray(self.names).tobytes()).hexdigest()


def folders_state(root: str | bytes | Path, folders: np.ndarray) -> str:
    """A hash of when each folder below ``root`` was changed."""
    return files_state(os.path.join(os.fsencode(root), folder) for folder in folders)


def read_folder(data: Data, train: str = "train") -> Split:
    """Training and evaluation files of ``data.root``; with ``data.holdout`` both are the training files, to be split.

    Raises RequestError for a missing folder, a class without images, and classes in only one of the two.
    """
    names = (train, train if data.holdout else "val")
    folders = [Path(data.root or "") / name for name in names]
    (first, classes), (second, others) = (_class_folders(data, folder) for folder in folders)
    if odd := sorted({*classes} ^ {*others}):
        only = folders[0] if odd[0] in classes else folders[1]
        raise RequestError(f"train/ and val/ must contain the same class folders; '{odd[0]}' exists only in {only}")
    if data.num_classes not in (None, len(classes)):
        raise RequestError(
            f"{folders[0]} has {len(classes)} class folders, but data={data.name} requires {data.num_classes}; "
            "data=imagefolder accepts any number"
        )
    return Split(first, second, len(classes))


def _class_folders(data: Data, folder: Path) -> tuple[FileSamples, list[str]]:
    """The files of class folders and the names of the classes, indexed once until a folder changes."""
    if not folder.is_dir():
        raise RequestError(
            f"no folder {folder}; data.root must contain train/ and val/ with one folder per class "
            "(or train/ only, with data.holdout=0.1)"
        )

    def index(target: Target) -> tuple[str, dict[str, str]]:
        # before the files are listed, so that one added meanwhile is noticed
        folders = _encoded([os.path.relpath(path, folder) for path, _, _ in os.walk(folder, followlinks=True)])
        state = folders_state(folder, folders)
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise RequestError(f"{folder}: {' '.join(str(error).split()).rstrip('.')}") from error
        target.add("names", _encoded([file[len(str(folder)) + 1 :] for file, _ in found.samples]))
        target.add("labels", np.array(found.targets, np.int32))
        target.add("classes", _encoded(found.classes))
        target.add("folders", folders)
        return state, {}

    def current(found: Cached) -> str:
        return folders_state(folder, found.arrays["folders"])

    arrays = cached(data, f"index-{folder.name}", ["folder", os.path.realpath(folder)], current, index).arrays
    samples = FileSamples(folder, arrays["names"], arrays["labels"].astype(np.int64), arrays["folders"])
    return samples, [os.fsdecode(name) for name in arrays["classes"]]


def _encoded(names: list[str]) -> np.ndarray:
    return np.array([os.fsencode(name) for name in names])


class TorchvisionSamples:
    """The images of one of torchvision's sets, as pixels; grey ones have three equal channels."""

    def __init__(self, dataset: Any):
        self.dataset, self.labels = dataset, np.asarray(_labels(dataset), np.int64)

    def name(self, index: int) -> str:
        return f"{index} of {type(self.dataset).__name__} in {self.dataset.root}"

    def read(self, index: int) -> np.ndarray:
        try:
            return np.array(self.dataset[index][0].convert("RGB"))
        except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise OSError(str(error)) from error

    def state(self) -> str:
        return content_digest(self)


def _labels(dataset: Any) -> Any:
    """The classes of all images, which torchvision's sets keep in different places."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(dataset, name):
            return getattr(dataset, name)
    return [label for _, label in dataset._samples]


def read_torchvision(data: Data, *, download: bool = True) -> Split:
    """The two parts of one of torchvision's sets, downloaded if missing. Raises RequestError if that fails."""
    known, root = torchvision_set(data.name), Path(data.root or "data")
    kind = getattr(torchvision.datasets, data.name)

    def opened(arguments: dict[str, Any]) -> TorchvisionSamples:
        try:
            return TorchvisionSamples(kind(root, **arguments, download=False))
        except (OSError, RuntimeError):
            if not download:
                raise
            return TorchvisionSamples(kind(root, **arguments, download=True))

    try:
        train = opened(known.train)
        val: Samples = train if known.val is None else opened(known.val)
    # torchvision raises RuntimeError for damaged files and ValueError for dead addresses, urllib OSError
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise RequestError(
            f"{data.name} is not in data.root={root} and could not be downloaded ({' '.join(str(error).split())}); "
            f"put it there as torchvision.datasets.{data.name} reads it, or choose another data.root"
        ) from error
    split = Split(train, val, known.num_classes)
    if known.val is None:
        kept, out = stratified_split(train.labels.tolist(), 0.2)
        split = Split(Subset(train, kept), Subset(train, out), known.num_classes)
    return split
