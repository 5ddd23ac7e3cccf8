"""Images in archives: Parquet files in the layout of the Hugging Face hub, and WebDataset tar shards.

Both are read by index rather than streamed, so shuffling is the same as for every other source.
"""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roadmap.data.cache import Target, cached, files_state
from roadmap.data.samples import Samples, Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")


class ParquetSamples:
    """Rows of a memory-mapped table; images are not decoded, and labels are read once."""

    def __init__(self, table: Any, data: Data, files: list[str]):
        import datasets

        for key in ("image_column", "label_column"):
            if getattr(data, key) not in table.column_names:
                raise RequestError(
                    f"the parquet files have no column '{getattr(data, key)}'; "
                    f"set data.{key} to one of {', '.join(table.column_names)}"
                )
        self.rows, self.image = table.cast_column(data.image_column, datasets.Image(decode=False)), data.image_column
        self.labels = np.asarray(table.with_format("numpy")[data.label_column][:], np.int64)
        self.files = files

    def name(self, index: int) -> str:
        return f"row {index} ({self.rows[index][self.image]['path']})"

    def read(self, index: int) -> bytes:
        return self.rows[index][self.image]["bytes"] or b""

    def state(self) -> str:
        return files_state(self.files)


def read_parquet(data: Data) -> Split:
    """The Parquet files of a data set.

    Raises RequestError for missing files or columns, labels beyond the number of classes, and without `datasets`.
    """
    try:
        import datasets
    except ImportError as error:
        raise RequestError(
            "parquet files require the package datasets: pip install 'convnext-roadmap[parquet]'"
        ) from error
    files = {field: list(map(str, _matching_files(data, field))) for field in ("train_files", "val_files")}
    datasets.disable_progress_bars()
    try:
        tables = datasets.load_dataset("parquet", data_files=files)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise RequestError(f"cannot read the parquet files of {data.root}: {' '.join(str(error).split())}") from error
    train, val = (ParquetSamples(tables[field], data, files[field]) for field in files)
    return _split(train, val, data)


@dataclass
class TarSamples:
    """Images by shard, offset and size in bytes, in arrays that workers share without copying."""

    shards: list[Path]
    names: np.ndarray  # bytes
    locations: np.ndarray  # int64 (N, 3): shard, offset, size
    labels: np.ndarray

    def name(self, index: int) -> str:
        return f"{self.shards[self.locations[index, 0]]}:{os.fsdecode(self.names[index])}"

    def read(self, index: int) -> bytes:
        shard, offset, size = self.locations[index].tolist()
        with open(self.shards[shard], "rb") as file:
            file.seek(offset)
            return file.read(size)

    def state(self) -> str:
        return files_state(self.shards)


def read_shards(data: Data) -> Split:
    """The tar shards of a data set, indexed once until one changes.

    Raises RequestError for missing shards, an image without a label, and labels beyond the number of classes.
    """
    train, val = (_index(data, _matching_files(data, field)) for field in ("train_files", "val_files"))
    return _split(train, val, data)


def _index(data: Data, shards: list[Path]) -> TarSamples:
    def index(target: Target) -> tuple[str, dict[str, str]]:
        state = files_state(shards)
        rows = [(number, *row) for number, shard in enumerate(shards) for row in _members(shard)]
        if not rows:
            raise RequestError(f"no images in {shards[0].parent}; names in its shards must end in {', '.join(IMAGES)}")
        numbers, names, offsets, sizes, labels = zip(*rows, strict=True)
        target.add("names", np.array([*map(os.fsencode, names)]))
        target.add("locations", np.stack([numbers, offsets, sizes], 1).astype(np.int64))
        target.add("labels", np.array(labels, np.int64))
        return state, {}

    key = ["tar", *map(os.path.realpath, shards)]
    arrays = cached(data, f"index-{shards[0].stem}", key, lambda _: files_state(shards), index).arrays
    return TarSamples(shards, arrays["names"], arrays["locations"], arrays["labels"])


def _members(shard: Path) -> list[tuple[str, int, int, int]]:
    """Name, offset, size and label of each image of a shard, in order; the files of a sample share a key."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key = f"{folder}/{stem}"
                if f".{extension.lower()}".endswith(IMAGES) and member.isfile():
                    images[key] = (member.name, member.offset_data, member.size)
                elif extension == "cls" and (content := tar.extractfile(member)):
                    labels[key] = int(content.read())
        return [(*image, labels[key]) for key, image in images.items()]
    except (OSError, tarfile.TarError, ValueError) as error:
        raise RequestError(f"cannot read shard {shard}: {' '.join(str(error).split())}") from error
    except KeyError as error:
        raise RequestError(f"{shard}:{images[error.args[0]][0]} has no label; a .cls file is required") from error


def _matching_files(data: Data, field: str) -> list[Path]:
    """The files in ``data.root`` that match the pattern ``data.train_files`` or ``data.val_files``, sorted."""
    pattern = getattr(data, field)
    files = sorted(Path(data.root or "").glob(pattern))
    if not files:
        raise RequestError(f"no file {data.root}/{pattern}; data.{field} must be a pattern that matches files")
    return files


def _split(train: Samples, val: Samples, data: Data) -> Split:
    """A split with ``data.num_classes``, or as many as the highest label requires."""
    highest = int(max(train.labels.max(), val.labels.max()))
    if data.num_classes is not None and highest >= data.num_classes:
        raise RequestError(f"{data.root} has label {highest}, but data.num_classes={data.num_classes}")
    return Split(train, val, data.num_classes or highest + 1)
