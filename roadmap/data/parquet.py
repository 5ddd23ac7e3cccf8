"""Images in parquet files as the Hugging Face hub hands them out, through their `datasets` library."""

from pathlib import Path
from typing import Any

from roadmap.data.samples import Split
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


class ParquetSamples:
    """Rows of a memory-mapped table: images not decoded, labels read once."""

    def __init__(self, rows: Any, image: str, label: str):
        self.rows, self.image = rows, image
        self.labels: list[int] = list(rows[label])

    def name(self, index: int) -> str:
        return f"row {index} ({self.rows[index][self.image].get('path') or 'unnamed'})"

    def read(self, index: int) -> bytes:
        content = self.rows[index][self.image]["bytes"]
        if content is None:
            raise OSError("the row holds no image")
        return content


def read_parquet(data: Data) -> Split:
    """The files that ``data.train_files`` and ``data.val_files`` name under ``data.root``.

    Raises RequestError for missing files or columns, labels beyond the number of classes, and without `datasets`.
    """
    try:
        import datasets
    except ImportError as error:
        raise RequestError(
            "parquet files need the package datasets; pip install 'convnext-roadmap[parquet]'"
        ) from error
    splits = {}
    for field in ("train_files", "val_files"):
        pattern = getattr(data, field) or ""
        files = sorted(map(str, Path(data.root or "").glob(pattern))) if pattern else []
        if not files:
            raise RequestError(f"no file {data.root}/{pattern}; data.{field} wants the pattern of the files' names")
        splits[field] = files
    datasets.disable_progress_bars()
    try:
        tables = datasets.load_dataset("parquet", data_files=splits)
    # what `datasets` raises for damaged files is its own, wrapped around arrow's
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise RequestError(f"cannot read the parquet files of {data.root}: {' '.join(str(error).split())}") from error
    train, val = (_samples(tables[field], data) for field in splits)
    highest = max(*train.labels, *val.labels)
    if data.num_classes is not None and highest >= data.num_classes:
        raise RequestError(f"{data.root} has label {highest}, but data.num_classes={data.num_classes}")
    return Split(train, val, data.num_classes or highest + 1)


def _samples(table: Any, data: Data) -> ParquetSamples:
    import datasets

    for key in ("image_column", "label_column"):
        if getattr(data, key) not in table.column_names:
            raise RequestError(
                f"the parquet files have no column '{getattr(data, key)}'; "
                f"set data.{key} to one of {', '.join(table.column_names)}"
            )
    rows = table.cast_column(data.image_column, datasets.Image(decode=False))
    return ParquetSamples(rows, data.image_column, data.label_column)
