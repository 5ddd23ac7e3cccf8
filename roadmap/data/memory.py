"""Data sets in memory: uint8 tensors on the device."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from roadmap.data.samples import balanced_part, stratified_split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data

DIGITS_TEST, DIGITS_TUNING = 1200, 239  # of 1,797


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 (N, 3, H, W) and ``labels`` int64 (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Images":
        pixels, labels = self.pixels.to(device), self.labels.to(device)
        return self if pixels is self.pixels else Images(pixels, labels)

    def subset(self, indices: list[int]) -> "Images":
        return Images(self.pixels[indices], self.labels[indices])


# weak: the memory is free again when no run needs it
_shared: WeakValueDictionary[tuple[Data, int, torch.device, str], Images] = WeakValueDictionary()


def shared_images(data: Data, image_size: int, device: torch.device) -> tuple[Images, Images]:
    """The images of ``read_images`` on a device, once for all runs of this process that use them at the same time."""
    keys = [(data, image_size, device, part) for part in ("train", "val")]
    train, val = map(_shared.get, keys)
    if train is None or val is None:
        train, val = (images.to(device) for images in read_images(data, image_size))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # each run has a stream of its own
        _shared.update(zip(keys, (train, val), strict=True))
    return train, val


def read_images(data: Data, image_size: int) -> tuple[Images, Images]:
    """Training and evaluation images of an in-memory source.

    With ``data.holdout`` both come from the training images, so that tuning does not use the test images.
    """
    train, test = _digits(image_size) if data.source == "digits" else _cifar(data)
    if data.holdout:
        kept, held_out = stratified_split(train.labels.tolist(), data.holdout)
        train, test = train.subset(kept), train.subset(held_out)
    if data.train_images is not None:
        train = train.subset(balanced_part(train.labels.numpy(), data.train_images).tolist())
    return train, test


def _digits(image_size: int) -> tuple[Images, Images]:
    """scikit-learn's 8x8 digits at ``image_size``, in a fixed stratified split: 358 for training and 1,200 for test.

    The other 239 were used to tune ``conf/scaled_recipes.yaml`` and are in neither.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)
    # enlarged before cropping: crops of 8x8 pixels would be coarse
    pixels = F.resize(pixels[:, None].expand(-1, 3, -1, -1).contiguous(), [image_size, image_size])
    images = Images(pixels, torch.from_numpy(digits.target).long())
    rest, test = stratified_split(images.labels.tolist(), DIGITS_TEST)
    train, _ = stratified_split(images.labels[rest].tolist(), DIGITS_TUNING)
    return images.subset(rest).subset(train), images.subset(test)


def _cifar(data: Data) -> tuple[Images, Images]:
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = CIFAR10 if data.source == "cifar10" else CIFAR100
    root = Path(data.root or "data")
    try:
        parts = [reader(root, train, download=not (root / reader.base_folder).is_dir()) for train in (True, False)]
    # torchvision raises RuntimeError for damaged files, urllib OSError without a network
    except (OSError, RuntimeError, EOFError) as error:
        raise RequestError(
            f"{data.name} is not in data.root={root} and could not be downloaded ({' '.join(str(error).split())}); "
            f"put {reader.filename} there (packed or unpacked), or choose another data.root"
        ) from error
    train, test = (
        Images(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return train, test


class InMemoryBatches:
    """Batches of ``images`` by index, on their device."""

    def __init__(self, images: Images):
        self.images = images
        self.unread: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """SHA-256 of the labels in order; the images follow from the data's name."""
        return hashlib.sha256(self.images.labels.cpu().numpy().astype("<i8").tobytes()).hexdigest()

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch uint8 (n, 3, H, W) with labels (n,) for each tensor of image indices."""
        for batch in indices:
            batch = batch.to(self.images.labels.device)
            yield self.images.pixels[batch], self.images.labels[batch]
