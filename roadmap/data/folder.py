"""Images in class folders: ``root/train/CLASS/*.jpg`` and ``root/val/CLASS/*.jpg``."""

import os
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder

from roadmap.data.samples import Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


class Files:
    """Image files, as an array rather than a list: workers would copy a list's million objects one by one."""

    def __init__(self, files: list[str], labels: list[int]):
        self.files = np.array([os.fsencode(file) for file in files])
        self.labels = labels

    def name(self, index: int) -> str:
        return os.fsdecode(self.files[index])

    def read(self, index: int) -> bytes:
        with open(self.files[index], "rb", buffering=0) as file:
            return file.read()


def read_folder(data: Data) -> Split:
    """Training and evaluation files of ``data.root``; the same twice with ``data.holdout``, which divides them.

    Raises RequestError for a missing folder, a class without images, and classes that differ between the two.
    """
    root = Path(data.root or "")
    train = _class_folders(root / "train")
    # a share of train/ takes the place of val/, which need not be there then
    val = train if data.holdout else _class_folders(root / "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        there = "train" if odd[0] in train.classes else "val"
        raise RequestError(f"class '{odd[0]}' is only in {root / there}; train and val want the same class folders")
    _check_number(train, data)
    return Split(_files(train), _files(val), len(train.classes))


def read_val_folder(data: Data) -> Split:
    """The evaluation files of ``data.root`` alone, in the place of the training files too. Errors as of both."""
    val = _class_folders(Path(data.root or "") / "val")
    _check_number(val, data)
    return Split(_files(val), _files(val), len(val.classes))


def _check_number(folder: ImageFolder, data: Data) -> None:
    if data.num_classes is not None and len(folder.classes) != data.num_classes:
        raise RequestError(
            f"{folder.root} has {len(folder.classes)} class folders, but data={data.name} wants {data.num_classes}; "
            "data=imagefolder takes any number"
        )


def _files(folder: ImageFolder) -> Files:
    return Files([file for file, _ in folder.samples], folder.targets)


def _class_folders(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise RequestError(
            f"no folder {folder}; data.root wants train/ and val/, each with a folder a class "
            "(or train/ alone and data.holdout=0.1)"
        )
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"{folder}: {reason}") from error
