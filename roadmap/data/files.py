"""Data sets of encoded images: which reader opens which source."""

from collections.abc import Callable

from roadmap.data.folder import read_folder
from roadmap.data.parquet import read_parquet
from roadmap.data.samples import Split
from roadmap.data.shards import read_shards
from roadmap.experiment import Data

READERS: dict[str, Callable[[Data], Split]] = {
    "folder": read_folder,
    "parquet": read_parquet,
    "webdataset": read_shards,
}


def read_files(data: Data) -> Split:
    """Training and evaluation images of a source; RequestError where there are none or they do not fit."""
    return READERS[data.source](data).with_classes(data.classes).held_out(data.holdout)
