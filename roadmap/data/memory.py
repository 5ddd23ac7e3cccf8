"""Data sets in memory: uint8 tensors on the device."""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from roadmap.data.cache import Cached, Target, cached
from roadmap.data.image import EvalImageTransform
from roadmap.data.image_dataset import ImageFileBatches, UnreadableImages
from roadmap.data.samples import Samples, Split, balanced_part, content_digest, stratified_split
from roadmap.errors import RequestError
from roadmap.runtime.device import free_memory
from roadmap.schema.experiment import Data, EvalTransform, Experiment

logger = logging.getLogger(__name__)

DIGITS_TEST, DIGITS_TUNING = 1200, 239  # of 1,797
BUDGET_SHARE = 0.6  # of the free memory
DECODE_BATCH = 256


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 (N, 3, H, W) and ``labels`` int64 (N,).

    ``files`` are the image files they were decoded from; evaluation images are already transformed. Unreadable images
    are black.
    """

    pixels: Tensor
    labels: Tensor
    files: Samples | None = None
    unreadable: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Images":
        pixels, labels = self.pixels.to(device), self.labels.to(device)
        return self if pixels is self.pixels else replace(self, pixels=pixels, labels=labels)

    def subset(self, indices: list[int]) -> "Images":
        return Images(self.pixels[indices], self.labels[indices])


# weak references, so that the memory is freed when no run needs it
_shared: WeakValueDictionary[tuple[Any, ...], Images] = WeakValueDictionary()


def shared_images(data: Data, image_size: int, device: torch.device) -> tuple[Images, Images]:
    """Return the images of ``read_images`` on a device, shared by the concurrent runs of this process."""
    keys = [(data, image_size, device, part) for part in ("train", "val")]
    train, val = map(_shared.get, keys)
    if train is None or val is None:
        train, val = (images.to(device) for images in read_images(data, image_size))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # each run has a stream of its own
        _shared.update(zip(keys, (train, val), strict=True))
    return train, val


def decoded_images(
    experiment: Experiment, split: Split, device: torch.device, workers: int, corrupt: UnreadableImages
) -> tuple[Images, Images]:
    """Return image files as tensors on a device, decoded once by ``workers`` processes and cached on disk.

    Training images are resized (shorter side, bicubic) and center-cropped to ``image_size``; evaluation images get the
    recipe's transform. An unreadable training image is replaced by the next one. Raises RequestError if the images
    exceed the memory budget, and WorkError if more than ``corrupt.limit`` are unreadable.
    """
    data = experiment.data
    _check_budget(experiment, len(split.train.labels) + len(split.val.labels), device)
    evaluated = EvalTransform.of(experiment.recipe, data, image_size=experiment.image_size)
    trained = evaluated.replace(crop_ratio=1.0, interpolation="bicubic", resize="shorter_side")
    found = []
    for part, samples, transform in (("train", split.train, trained), ("val", split.val, evaluated)):
        arrays = _decoded(data, part, samples, transform, workers, corrupt)
        key = (str(arrays.folder), arrays.state, device)
        images = _shared.get(key)
        if images is None:
            images = _readable(part, samples, arrays).to(device)
            if arrays.folder is not None:
                _shared[key] = images
        found.append(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return found[0], found[1]


def _check_budget(experiment: Experiment, count: int, device: torch.device) -> None:
    needed, given = count * 3 * experiment.image_size**2 / 1e9, experiment.settings.memory_budget_gb
    budget = given or BUDGET_SHARE * free_memory(device) / 1e9
    if needed > budget:
        source = "memory_budget_gb" if given else f"{BUDGET_SHARE:.0%} of the free memory of {device}"
        raise RequestError(
            f"{count:,} images of {experiment.data.name} at image_size={experiment.image_size} need {needed:.3g} GB in "
            f"memory, more than {budget:.3g} GB ({source}); raise memory_budget_gb, or choose in_memory=false (crops "
            "are then taken from the image files, which is another experiment)"
        )


def _decoded(
    data: Data, part: str, samples: Samples, transform: EvalTransform, workers: int, corrupt: UnreadableImages
) -> Cached:
    """Return the decoded images as the array "pixels"; the notes hold the reasons of unreadable images."""

    def decode(target: Target) -> tuple[str, dict[str, Any]]:
        state, count, size, began = samples.state(), len(samples.labels), transform.image_size, time.perf_counter()
        pixels = target.empty("pixels", np.uint8, (count, 3, size, size))
        sums, readable = np.zeros((2, 3)), 0
        crop, few = EvalImageTransform(transform), min(workers, count // DECODE_BATCH)
        files = ImageFileBatches(samples, crop, corrupt, seed=None, num_workers=few, device=torch.device("cpu"))
        batches = torch.arange(count).split(DECODE_BATCH)
        shown = None if logger.isEnabledFor(logging.WARNING) else True
        progress = tqdm(batches, desc=f"decoding {data.name} {part}", leave=False, delay=2, disable=shown)
        for batch, (images, _) in zip(progress, files.batches(0, batches), strict=True):
            pixels[[index for index in batch.tolist() if index not in files.unread]] = images.numpy()
            values = images.double()
            sums += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).numpy()
            readable += len(images)
        mean, squares = sums / (max(readable, 1) * size * size)
        std = (squares - mean**2) ** 0.5
        logger.info(f"{data.name}: decoded {count:,} images ({part}) in {time.perf_counter() - began:.1f} s")
        if part == "train":
            _compare_statistics(data, mean / 255, std / 255)
        reasons = {str(index): corrupt.found[samples.name(index)] for index in files.unread}
        pixels[files.unread] = 0
        return state, {"unreadable": reasons}

    request, name = _request(data, part, transform), f"{part}-{transform.image_size}"
    found = cached(data, name, request, lambda _: samples.state(), decode)
    corrupt.add({samples.name(int(index)): reason for index, reason in found.notes["unreadable"].items()})
    return found


def _request(data: Data, part: str, transform: EvalTransform) -> list[Any]:
    """Return everything that the decoded images depend on, except the state of the files."""
    fields = ["source", "num_classes", "classes", "holdout", "train_files", "val_files", "image_column", "label_column"]
    fields += ["train_images"] if part == "train" else []
    values = [getattr(data, name) for name in fields]
    name = data.name if data.source == "torchvision" else ""
    crop = [transform.image_size, transform.crop_ratio, transform.interpolation, transform.resize]
    return [part, crop, name, os.path.realpath(data.root or ""), values]


def _compare_statistics(data: Data, mean: np.ndarray, std: np.ndarray) -> None:
    """Log the training images' own mean and standard deviation if data.mean and data.std differ from them."""
    if np.abs([mean - data.mean, std - data.std]).max() > 0.02:
        own = " ".join(f"data.{name}=[{','.join(f'{x:.4f}' for x in v)}]" for name, v in (("mean", mean), ("std", std)))
        logger.info(f"{data.name}: normalised by another mean or deviation than those of its training images, {own}")


def _readable(part: str, samples: Samples, found: Cached) -> Images:
    """Return the images, with unreadable training images replaced by the next ones."""
    unreadable = sorted(map(int, found.notes["unreadable"]))
    pixels, labels = torch.from_numpy(found.arrays["pixels"]), torch.from_numpy(samples.labels.copy())
    if part == "val" or len(unreadable) == len(labels):
        return Images(pixels, labels, samples, tuple(unreadable))
    for index in unreadable:
        other = next(
            i % len(labels) for i in range(index + 1, index + len(labels)) if i % len(labels) not in unreadable
        )
        pixels[index], labels[index] = pixels[other], labels[other]
    return Images(pixels, labels, samples)


def read_images(data: Data, image_size: int) -> tuple[Images, Images]:
    """Return training and evaluation images of an in-memory source.

    With ``data.holdout``, both are taken from the training images, so that tuning never uses the test images.
    """
    train, test = _digits(image_size) if data.source == "digits" else _cifar(data)
    if data.holdout:
        kept, held_out = stratified_split(train.labels.tolist(), data.holdout)
        train, test = train.subset(kept), train.subset(held_out)
    if data.train_images is not None:
        train = train.subset(balanced_part(train.labels.numpy(), data.train_images).tolist())
    return train, test


def _digits(image_size: int) -> tuple[Images, Images]:
    """Return scikit-learn's 8x8 digits at ``image_size`` in a fixed stratified split: 358 training, 1,200 test images.

    The other 239 were used to tune ``conf/scaled_recipes.yaml``.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)
    # upsampled before cropping, since crops of 8x8 pixels would be coarse
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
        """Return a hash of the files' content, or of the labels if the data's name determines the images."""
        if self.images.files is not None:
            return content_digest(self.images.files)
        return hashlib.sha256(self.images.labels.cpu().numpy().astype("<i8").tobytes()).hexdigest()

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images uint8 (n, 3, H, W) and labels (n,) for each tensor of image indices."""
        for batch in indices:
            batch = batch.to(self.images.labels.device)
            yield self.images.pixels[batch], self.images.labels[batch]
