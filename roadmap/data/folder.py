"""Data sets of image files in class folders, decoded and augmented per image in worker processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from roadmap.data.order import epoch_order, stratified_split
from roadmap.errors import RequestError, WorkError
from roadmap.experiment import Data
from roadmap.seeds import derived_seed

Samples = list[tuple[str, int]]  # path and class


def read_samples(data: Data) -> tuple[Samples, Samples, list[str]]:
    """Training samples, evaluation samples and class names of ``root/train`` and ``root/val``.

    Raises RequestError for a missing folder, a class without images, and classes that differ between the two.
    """
    root = Path(data.root or "")
    train, val = _class_folders(root / "train"), _class_folders(root / "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        there = "train" if odd[0] in train.classes else "val"
        raise RequestError(f"class '{odd[0]}' is only in {root / there}; train and val want the same class folders")
    if data.num_classes is not None and len(train.classes) != data.num_classes:
        raise RequestError(
            f"{root / 'train'} has {len(train.classes)} class folders, but data={data.name} wants {data.num_classes}; "
            "data=imagefolder takes any number"
        )
    if data.holdout:
        kept, held_out = stratified_split(train.targets, data.holdout)
        return [train.samples[i] for i in kept], [train.samples[i] for i in held_out], train.classes
    return train.samples, val.samples, train.classes


def _class_folders(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}; data.root wants train/ and val/, each with a folder a class")
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"{folder}: {reason}") from error


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image, or a batch with one, that could not be decoded; errors of workers arrive as tracebacks."""

    file: str
    reason: str


class ImageFiles(Dataset[Any]):
    """Decoded and transformed samples; the random numbers of each depend on seed, epoch and index alone."""

    def __init__(self, samples: Samples, transform: Callable[[Any], Tensor], seed: int | None):
        self.samples, self.transform, self.seed, self.epoch = samples, transform, seed, 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Unreadable:
        file, label = self.samples[index]
        try:
            image = default_loader(file)
        # what Pillow raises for damaged files
        except (OSError, SyntaxError, ValueError) as error:
            return Unreadable(file, " ".join(str(error).split()))
        if self.seed is None:
            return self.transform(image), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, "image", self.epoch, index))
            return self.transform(image), label


def collate(samples: Sequence[Any]) -> Any:
    """A batch, or the sample that spoils it."""
    spoilt = [sample for sample in samples if isinstance(sample, Unreadable)]
    return spoilt[0] if spoilt else default_collate(list(samples))


class FolderLoader:
    """Batches of image files, all in order, or shuffled by seed and epoch without the incomplete last update."""

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        transform: Callable[[Any], Tensor],
        *,
        shuffle_by: int | None,
        num_workers: int,
        device: torch.device,
    ):
        self.dataset = ImageFiles(samples, transform, shuffle_by)
        self.batch_size, self.shuffle_by, self.num_workers, self.device = batch_size, shuffle_by, num_workers, device

    def batches(self, epoch: int, used: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``used`` images of the epoch's order, ``batch_size`` at a time, on the device.

        Raises WorkError naming an image that cannot be read.
        """
        order = epoch_order(len(self.dataset), self.shuffle_by, epoch)
        self.dataset.epoch = epoch
        loader = DataLoader(
            self.dataset,
            self.batch_size,
            sampler=order[:used].tolist(),
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, Unreadable):
                raise WorkError(f"cannot read image {batch.file}: {batch.reason}")
            images, labels = batch
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
