"""Images in parquet files in the layout of the Hugging Face hub, read with the `datasets` library."""

from typing import Any

from roadmap.data.samples import Split, labelled_split, matching_files
from roadmap.errors import RequestError
from roadmap.schema.experiment import Data


class ParquetSamples:
    """Rows of a memory-mapped table; images are not decoded, and labels are read once."""

    def __init__(self, rows: Any, image: str, label: str):
        self.rows, self.image = rows, image
        self.labels: list[int] = list(rows[label])

    def name(self, index: int) -> str:
        return f"row {index} ({self.rows[index][self.image].get('path') or 'unnamed'})"

    def read(self, index: int) -> bytes:
        content = self.rows[index][self.image]["bytes"]
        if content is None:
            raise OSError("the row has no image")
        return content


def read_parquet(data: Data) -> Split:
    """The files in ``data.root`` that match ``data.train_files`` and ``data.val_files``.

    Raises RequestError for missing files or columns, labels beyond the number of classes, and without `datasets`.
    """
    try:
        import datasets
    except ImportError as error:
        raise RequestError(
            "parquet files require the package datasets: pip install 'convnext-roadmap[parquet]'"
        ) from error
    splits = {field: list(map(str, matching_files(data, field))) for field in ("train_files", "val_files")}
    datasets.disable_progress_bars()
    try:
        tables = datasets.load_dataset("parquet", data_files=splits)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise RequestError(f"cannot read the parquet files of {data.root}: {' '.join(str(error).split())}") from error
    train, val = (_samples(tables[field], data) for field in splits)
    return labelled_split(train, val, data)


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
