"""The readers of image files by source."""

from collections.abc import Callable
from pathlib import Path

from roadmap.data.folder import read_folder, read_val_folder
from roadmap.data.parquet import read_parquet
from roadmap.data.samples import Samples, Split
from roadmap.data.shards import read_shards
from roadmap.schema.experiment import Data

READERS: dict[str, Callable[[Data], Split]] = {
    "folder": read_folder,
    "parquet": read_parquet,
    "webdataset": read_shards,
}


def read_files(data: Data) -> Split:
    """Training and evaluation images of a data set. Raises RequestError if they are missing or inconsistent."""
    return READERS[data.source](data).with_classes(data.classes).held_out(data.holdout)


def read_evaluated(data: Data) -> tuple[Samples, int]:
    """The evaluation images of a data set and its number of classes; class folders need only ``val/``."""
    root = Path(data.root or "")
    val_only = (
        data.source == "folder" and not data.holdout and (root / "val").is_dir() and not (root / "train").is_dir()
    )
    split = read_val_folder(data).with_classes(data.classes) if val_only else read_files(data)
    return split.val, split.num_classes
