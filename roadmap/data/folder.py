"""Images in class folders: ``root/train/CLASS/*.jpg`` and ``root/val/CLASS/*.jpg``."""

import os
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder

from roadmap.data.samples import Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


class FileSamples:
    """Image files. Their names are an array because workers would copy each string of a list."""

    def __init__(self, files: list[str], labels: list[int]):
        self.files = np.array([os.fsencode(file) for file in files])
        self.labels = labels

    def name(self, index: int) -> str:
        return os.fsdecode(self.files[index])

    def read(self, index: int) -> bytes:
        with open(self.files[index], "rb", buffering=0) as file:
            return file.read()


def read_folder(data: Data) -> Split:
    """Training and evaluation files of ``data.root``; with ``data.holdout`` both are the training files, to be split.

    Raises RequestError for a missing folder, a class without images, and classes in only one of the two.
    """
    root = Path(data.root or "")
    train = _class_folders(root / "train")
    val = train if data.holdout else _class_folders(root / "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))[0]
        only = "train" if odd in train.classes else "val"
        raise RequestError(f"train/ and val/ must contain the same class folders; '{odd}' exists only in {root / only}")
    _check_class_count(train, data)
    return Split(_files(train), _files(val), len(train.classes))


def read_val_folder(data: Data) -> Split:
    """The evaluation files of ``data.root``, also in place of the training files. Raises RequestError."""
    val = _class_folders(Path(data.root or "") / "val")
    _check_class_count(val, data)
    return Split(_files(val), _files(val), len(val.classes))


def _check_class_count(folder: ImageFolder, data: Data) -> None:
    if data.num_classes is not None and len(folder.classes) != data.num_classes:
        raise RequestError(
            f"{folder.root} has {len(folder.classes)} class folders, but data={data.name} requires {data.num_classes}; "
            "data=imagefolder accepts any number"
        )


def _files(folder: ImageFolder) -> FileSamples:
    return FileSamples([file for file, _ in folder.samples], folder.targets)


def _class_folders(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise RequestError(
            f"no folder {folder}; data.root must contain train/ and val/ with one folder per class "
            "(or train/ only, with data.holdout=0.1)"
        )
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"{folder}: {reason}") from error
