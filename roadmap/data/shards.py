"""Images in WebDataset tar shards, read by index rather than streamed.

Members are indexed once when a run starts, so any process can read any image with one seek, and shuffling is the same
as for every other source.
"""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadmap.data.samples import Split, labelled_split, matching_files
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.experiment import Data

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
LABEL = ".cls"


@dataclass
class TarSamples:
    """Images by shard, offset and size in bytes, in arrays that workers share without copying."""

    shards: list[Path]
    names: np.ndarray  # bytes
    locations: np.ndarray  # int64 (N, 3): shard, offset, size
    labels: list[int]

    def name(self, index: int) -> str:
        return f"{self.shards[self.locations[index, 0]]}:{os.fsdecode(self.names[index])}"

    def read(self, index: int) -> bytes:
        shard, offset, size = self.locations[index].tolist()
        with open(self.shards[shard], "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise OSError(f"the shard ends {size - len(data)} bytes early")
        return data


def read_shards(data: Data) -> Split:
    """The shards in ``data.root`` that match ``data.train_files`` and ``data.val_files``.

    Raises RequestError for missing shards, an image without a label, and labels beyond the number of classes.
    """
    train, val = (_index(matching_files(data, field)) for field in ("train_files", "val_files"))
    return labelled_split(train, val, data)


def _index(shards: list[Path]) -> TarSamples:
    names: list[bytes] = []
    labels: list[int] = []
    locations: list[tuple[int, int, int]] = []
    for number, shard in enumerate(shards):
        for name, (offset, size), label in _members(shard):
            names.append(os.fsencode(name))
            labels.append(label)
            locations.append((number, offset, size))
    if not names:
        raise RequestError(f"no images in {shards[0].parent}; names in its shards must end in {listed(IMAGES)}")
    return TarSamples(shards, np.array(names), np.array(locations), labels)


def _members(shard: Path) -> list[tuple[str, tuple[int, int], int]]:
    """Name, offset and size, and label of each image of a shard, in order; the files of a sample share a key."""
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
        raise RequestError(f"{shard}:{missing} has no label; a {LABEL} file of the same name is required")
    return [(name, (offset, size), labels[key]) for key, (name, offset, size) in images.items()]
