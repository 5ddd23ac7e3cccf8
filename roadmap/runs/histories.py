"""Read the histories of many runs into one table: JSON lines with polars, damaged files line by line."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.exported import opened
from roadmap.runs.records import exported_part
from roadmap.runs.run_folder import read_metrics
from roadmap.untrusted_io import parse_json

if TYPE_CHECKING:
    import polars as pl

TAIL = 8192  # bytes at the end of a file that always include its last line

# The names of the numbers in each line of a file; None if the lines have to be read one by one.
Layout = tuple[str, ...] | None
# The rows of some files, and the position of each row's file.
Part = tuple[pd.DataFrame, np.ndarray]


def read_histories(files: Sequence[Path]) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return the rows of all ``files`` in order, the position in ``files`` of each row's file, and what was skipped.

    A line that is not a JSON object with an epoch is skipped, with a sentence that names its file.
    """
    exported: dict[str, dict[str, int]] = defaultdict(dict)  # exported file -> run -> position
    layouts: dict[Layout, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        if part := exported_part(file):
            exported[part[0]][os.path.dirname(part[1])] = number
        else:
            layouts[_layout(file)].append(number)
    parts: list[Part] = []
    skipped = []
    for source, number_of in exported.items():
        try:
            parts += _exported(source, number_of)
        except RequestError as error:
            skipped.append(str(error).removeprefix("cannot read "))
    irregular = layouts.pop(None, [])
    for layout, numbers in layouts.items():
        assert layout is not None
        irregular += _parse_together(files, numbers, layout, parts)
    for number in sorted(irregular):
        rows, lost = _line_by_line(files[number])
        parts += [(pd.DataFrame(rows), np.full(len(rows), number))] if rows else []
        skipped += [lost] if lost else []
    return *_in_order(parts), skipped


def _in_order(parts: list[Part]) -> Part:
    """Concatenate the parts and sort their rows by file."""
    if not parts:
        return pd.DataFrame(), np.zeros(0, int)
    if len(parts) == 1:
        return parts[0]
    owner = np.concatenate([numbers for _, numbers in parts])
    order = np.argsort(owner, kind="stable")
    table = pd.concat([part for part, _ in parts], ignore_index=True)
    return table.iloc[order].reset_index(drop=True), owner[order]


def _exported(source: str, number_of: dict[str, int]) -> Iterator[Part]:
    """Yield the rows of runs in an exported file, one part per set of columns."""
    same_columns: dict[tuple[str, ...], list[tuple[list[np.ndarray], int]]] = defaultdict(list)
    for run, columns in opened(source).metrics():
        if run in number_of:
            arrays = [_array(values, int if name == "epoch" else float) for name, values in columns.items()]
            same_columns[tuple(columns)].append((arrays, number_of[run]))
    for names, runs in same_columns.items():
        together = map(np.concatenate, zip(*(arrays for arrays, _ in runs), strict=True))
        table = pd.DataFrame(dict(zip(names, together, strict=True)))
        yield table, np.repeat([number for _, number in runs], [len(arrays[0]) for arrays, _ in runs])


def _array(values: list[Any], kind: type) -> np.ndarray:
    with suppress(TypeError, ValueError, OverflowError):
        array: np.ndarray = np.array(values, kind)  # None is NaN
        if array.ndim == 1:
            return array
    return pd.Series(values, dtype=object).to_numpy()


def _layout(file: Path) -> Layout:
    """The layout of a file if its first and last line have the same names and only finite numbers."""
    try:
        with open(file, "rb") as opened:
            first = opened.readline()
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - TAIL))
            tail = opened.read()
        ends = parse_json(first), parse_json(tail.splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    if not tail.endswith(b"\n") or not all(isinstance(row, dict) and "epoch" in row for row in ends):
        return None
    numbers = all(type(value) in (int, float) and np.isfinite(value) for row in ends for value in row.values())
    return tuple(ends[0]) if numbers and set(ends[0]) == set(ends[1]) else None


def _parse_together(
    files: Sequence[Path], numbers: list[int], layout: tuple[str, ...], parts: list[Part]
) -> Iterator[int]:
    """Parse files of one layout at once into ``parts``; yield those that polars refuses, found by bisection."""
    import polars as pl

    schema = {name: pl.Int64 if name == "epoch" else pl.Float64 for name in layout}
    try:
        table = pl.scan_ndjson([files[n] for n in numbers], schema=schema, include_file_paths="file").collect()
    except (pl.exceptions.PolarsError, OSError):
        if len(numbers) == 1:
            yield numbers[0]
            return
        middle = len(numbers) // 2
        for half in (numbers[:middle], numbers[middle:]):
            yield from _parse_together(files, half, layout, parts)
        return
    parts.append(_as_pandas(table, {str(files[n]): n for n in numbers}))


def _as_pandas(table: "pl.DataFrame", number_of: dict[str, int]) -> Part:
    runs = table["file"].rle()
    owner = np.repeat(
        [number_of[file] for file in runs.struct.field("value").to_list()], runs.struct.field("len").to_numpy()
    )
    columns = {name: table[name].to_numpy() for name in table.columns if name != "file"}
    return pd.DataFrame(columns, copy=False), owner


def _line_by_line(file: Path) -> tuple[list[dict[str, Any]], str | None]:
    """The valid rows of a file, and a sentence on the lines that cannot be read."""
    try:
        lines = len(file.read_bytes().splitlines())
        rows = read_metrics(file)
    except (OSError, ValueError) as error:
        return [], f"{file}: {error}"
    lost = lines - len(rows)
    return rows, f"{file}: {lost} of {lines} lines cannot be read" if lost else None
