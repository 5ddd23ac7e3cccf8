"""Images in WebDataset's tar shards, read by number: nothing is streamed, so nothing is read twice or left out.

A shard's members are found once, when the run starts; reading an image is then one seek, whatever process asks. Order
and shares are those of every source, and as exact.
"""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadmap.data.samples import Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
LABEL = ".cls"


@dataclass
class TarSamples:
    """Images by shard, offset and size in bytes; arrays, which workers share without copying."""

    shards: list[Path]
    keys: np.ndarray  # of bytes
    places: np.ndarray  # int64 (N, 3): shard, offset, size
    labels: list[int]

    def name(self, index: int) -> str:
        return f"{self.shards[self.places[index, 0]]}:{os.fsdecode(self.keys[index])}"

    def read(self, index: int) -> bytes:
        shard, offset, size = self.places[index].tolist()
        with open(self.shards[shard], "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise OSError(f"the shard ends {size - len(data)} bytes early")
        return data


def read_shards(data: Data) -> Split:
    """The shards that ``data.train_files`` and ``data.val_files`` name under ``data.root``.

    Raises RequestError for missing shards, an image without a label, and labels beyond the number of classes.
    """
    train, val = (_indexed(data, pattern) for pattern in ("train_files", "val_files"))
    highest = max(max(train.labels), max(val.labels))
    if data.num_classes is not None and highest >= data.num_classes:
        raise RequestError(f"{data.root} has label {highest}, but data.num_classes={data.num_classes}")
    return Split(train, val, data.num_classes or highest + 1)


def _indexed(data: Data, field: str) -> TarSamples:
    pattern = getattr(data, field) or ""
    shards = sorted(Path(data.root or "").glob(pattern)) if pattern else []
    if not shards:
        raise RequestError(f"no file {data.root}/{pattern}; data.{field} wants the pattern of the shards' names")
    keys: list[bytes] = []
    labels: list[int] = []
    places: list[tuple[int, int, int]] = []
    for number, shard in enumerate(shards):
        for key, (offset, size), label in _members(shard):
            keys.append(os.fsencode(key))
            labels.append(label)
            places.append((number, offset, size))
    if not keys:
        raise RequestError(f"{shards[0]} and the like hold no images; their names want one of {', '.join(IMAGES)}")
    return TarSamples(shards, np.array(keys), np.array(places), labels)


def _members(shard: Path) -> list[tuple[str, tuple[int, int], int]]:
    """Name, place and label of each image of a shard, in its order; the parts of a sample share a key."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                key, suffix = f"{folder}/{stem}", f"{dot}{extension}".lower()
                if suffix.endswith(IMAGES) and member.isfile():
                    images[key] = (member.name, member.offset_data, member.size)
                elif suffix == LABEL and (content := tar.extractfile(member)):
                    labels[key] = int(content.read())
    except (OSError, tarfile.TarError, ValueError) as error:
        raise RequestError(f"cannot read shard {shard}: {' '.join(str(error).split())}") from error
    missing = next((images[key][0] for key in images if key not in labels), None)
    if missing is not None:
        raise RequestError(f"{shard}:{missing} has no label; WebDataset wants {LABEL} of the same name beside it")
    return [(name, (offset, size), labels[key]) for key, (name, offset, size) in images.items()]
