"""The histories of many runs in one table, by polars' parser of JSON lines; what it cannot take, line by line.

Exported runs have their metrics as columns already.
"""

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

TAIL = 8192  # bytes that surely hold a file's last line

# What a file's lines hold: the names of their numbers, or None where only reading them one by one will tell.
Layout = tuple[str, ...] | None


def read_histories(files: Sequence[Path]) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """The rows of all ``files`` in their order, the position among ``files`` of each row's, and what was skipped.

    Rows of a file keep their order. A line that is no JSON object with an epoch is skipped and its file named.
    """
    exported: dict[str, dict[str, int]] = defaultdict(dict)  # the number of each run's file, by exported file
    layouts: dict[int, Layout] = {}
    for number, file in enumerate(files):
        if part := exported_part(file):
            exported[part[0]][os.path.dirname(part[1])] = number
        else:
            layouts[number] = _layout(file)
    parts: list[tuple[pd.DataFrame, np.ndarray]] = []
    skipped = []
    for source, number_of in exported.items():
        try:
            parts += _exported(source, number_of)
        except RequestError as error:
            skipped.append(str(error).removeprefix("cannot read "))
    broken = [number for number, layout in layouts.items() if layout is None]
    for layout in dict.fromkeys(layout for layout in layouts.values() if layout):
        alike = [number for number, other in layouts.items() if other == layout]
        for numbers in _bisected(files, alike, layout, parts):
            broken.append(numbers)
    for number in sorted(broken):
        rows, lost = _line_by_line(files[number])
        parts += [(pd.DataFrame(rows), np.full(len(rows), number))] if rows else []
        skipped += [lost] if lost else []
    if not parts:
        return pd.DataFrame(), np.zeros(0, int), skipped
    table = pd.concat([part for part, _ in parts], ignore_index=True) if len(parts) > 1 else parts[0][0]
    owner = np.concatenate([numbers for _, numbers in parts])
    order = np.argsort(owner, kind="stable")
    if len(parts) > 1:
        table, owner = table.iloc[order].reset_index(drop=True), owner[order]
    return table, owner, skipped


def _exported(source: str, number_of: dict[str, int]) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """The rows of runs in an exported file, a table for each set of columns, and the number of each row's run."""
    alike: dict[tuple[str, ...], list[tuple[list[np.ndarray], int]]] = defaultdict(list)
    for run, columns in opened(source).metrics():
        if run in number_of:
            arrays = [_array(values, int if name == "epoch" else float) for name, values in columns.items()]
            alike[tuple(columns)].append((arrays, number_of[run]))
    for names, runs in alike.items():
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
    """From the first and the last line: where they agree on plain numbers, those between do too."""
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


def _bisected(
    files: Sequence[Path], numbers: list[int], layout: tuple[str, ...], parts: list[tuple[pd.DataFrame, np.ndarray]]
) -> Iterator[int]:
    """Add to ``parts`` what can be parsed at once; yields the files that cannot, found by halving."""
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
            yield from _bisected(files, half, layout, parts)
        return
    parts.append(_as_pandas(table, {str(files[n]): n for n in numbers}))


def _as_pandas(table: "pl.DataFrame", number_of: dict[str, int]) -> tuple[pd.DataFrame, np.ndarray]:
    runs = table["file"].rle()
    owner = np.repeat(
        [number_of[file] for file in runs.struct.field("value").to_list()], runs.struct.field("len").to_numpy()
    )
    columns = {name: table[name].to_numpy() for name in table.columns if name != "file"}
    return pd.DataFrame(columns, copy=False), owner


def _line_by_line(file: Path) -> tuple[list[dict[str, Any]], str | None]:
    """The rows that can be read, and a sentence about those that cannot."""
    try:
        lines = len(file.read_bytes().splitlines())
        rows = read_metrics(file)
    except (OSError, ValueError) as error:
        return [], f"{file}: {error}"
    lost = lines - len(rows)
    return rows, f"{file}: {lost} of {lines} lines cannot be read" if lost else None
