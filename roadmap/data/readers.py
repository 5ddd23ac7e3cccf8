"""The readers of image files by source, and the one of class folders: ``root/train/CLASS/*.jpg``, ``root/val/…``."""

import os
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder

from roadmap.data.archives import read_parquet, read_shards
from roadmap.data.samples import Samples, Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


def read_files(data: Data) -> Split:
    """Training and evaluation images of a data set. Raises RequestError if they are missing or inconsistent."""
    reader = {"folder": read_folder, "parquet": read_parquet, "webdataset": read_shards}[data.source]
    return reader(data).with_classes(data.classes).held_out(data.holdout)


def read_evaluated(data: Data) -> tuple[Samples, int]:
    """The evaluation images of a data set and its number of classes; class folders need only ``val/``."""
    if data.source == "folder" and not data.holdout and not (Path(data.root or "") / "train").is_dir():
        split = read_folder(data, train="val").with_classes(data.classes)
    else:
        split = read_files(data)
    return split.val, split.num_classes


class FileSamples:
    """Image files. Their names are an array because workers would copy each string of a list."""

    def __init__(self, files: list[tuple[str, int]]):
        self.files = np.array([os.fsencode(file) for file, _ in files])
        self.labels = [label for _, label in files]

    def name(self, index: int) -> str:
        return os.fsdecode(self.files[index])

    def read(self, index: int) -> bytes:
        with open(self.files[index], "rb", buffering=0) as file:
            return file.read()


def read_folder(data: Data, train: str = "train") -> Split:
    """Training and evaluation files of ``data.root``; with ``data.holdout`` both are the training files, to be split.

    Raises RequestError for a missing folder, a class without images, and classes in only one of the two.
    """
    names = (train, train if data.holdout else "val")
    first, second = (_class_folders(Path(data.root or "") / name) for name in names)
    classes = first.classes
    if odd := sorted({*classes} ^ {*second.classes}):
        only = first.root if odd[0] in classes else second.root
        raise RequestError(f"train/ and val/ must contain the same class folders; '{odd[0]}' exists only in {only}")
    if data.num_classes not in (None, len(classes)):
        raise RequestError(
            f"{first.root} has {len(classes)} class folders, but data={data.name} requires {data.num_classes}; "
            "data=imagefolder accepts any number"
        )
    return Split(FileSamples(first.samples), FileSamples(second.samples), len(classes))


def _class_folders(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise RequestError(
            f"no folder {folder}; data.root must contain train/ and val/ with one folder per class "
            "(or train/ only, with data.holdout=0.1)"
        )
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise RequestError(f"{folder}: {' '.join(str(error).split()).rstrip('.')}") from error
