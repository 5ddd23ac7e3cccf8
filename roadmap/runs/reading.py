"""Logged runs and their histories as pandas tables. Reads records only and never imports torch."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.formatting import duration
from roadmap.runs.exported import opened
from roadmap.runs.records import exported_part, is_place, read_json, run_paths
from roadmap.runs.run_folder import METRICS, SUMMARY, read_metrics
from roadmap.schema.summary import NUMBERS, EpochRow, Summary
from roadmap.untrusted_io import parse_json, reason
from roadmap.validation import converted

Folders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Row = dict[str, Any]

FIELDS = Summary.__struct_fields__  # columns of every table of runs; None where a record has no such field
NAMED = ("design", "recipe", "data", "seed", "epochs", "batch_size", "image_size", "precision")
WANDB = "wandb://"
TAIL = 8192  # bytes at the end of a file that always include its last line


def load_runs(folders: Folders) -> pd.DataFrame:
    """Return one row per run under ``folders``: the fields of its summary.json, and its ``path``.

    Folders are searched recursively, including the files of ``roadmap export`` in them; a subfolder with a file
    ``.exclude`` is skipped. ``folders`` may also name such a file, a run in it as ``FILE/RUN``, and a Weights & Biases
    project as ``wandb://ENTITY/PROJECT``, which is read through W&B's API.

    Accuracies are in percent, times in seconds, memory in GiB, MACs ×10⁹ and parameters ×10⁶. Fields that an older
    version did not write are missing values. A record that cannot be read is skipped with a warning; of two copies of a
    run, the one that ended last is kept. Raises RequestError for a folder or project that does not exist, and WorkError
    if W&B does not respond.
    """
    runs, skipped = read_runs(folders)
    _warn(skipped)
    return runs


def load_history(folders: Folders) -> pd.DataFrame:
    """Return one row per run and epoch: the fields of metrics.jsonl, with the run's id, variant, step and seed.

    Accuracies are in percent, times in seconds. A warning counts the lines of a file that cannot be read.
    """
    runs, skipped = read_runs(folders)
    history, lost = read_history(runs)
    _warn(skipped + lost)
    return history


def _warn(skipped: list[str]) -> None:
    for sentence in skipped:
        warnings.warn(f"skipped {sentence}", stacklevel=3)


def read_runs(folders: Folders) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of ``load_runs``, and a sentence on each skipped record."""
    summaries, skipped = read_summaries(folders)
    return runs_table(summaries), skipped


def read_summaries(folders: Folders) -> tuple[list[Row], list[str]]:
    """Return the record of each run with its ``path``, and a sentence on each skipped record."""
    summaries: dict[str, Row] = {}
    skipped: list[str] = []
    for summary in _summaries(folders, skipped):
        other = summaries.get(summary["run_id"])
        if other is None or (summary.get("ended") or "") > (other.get("ended") or ""):
            summaries[summary["run_id"]] = summary
    return list(summaries.values()), skipped


def runs_table(summaries: list[Row]) -> pd.DataFrame:
    """Return records as the table of ``load_runs``."""
    if not summaries:
        return pd.DataFrame(columns=[*FIELDS, "path"])
    runs = pd.DataFrame(summaries)
    runs = runs.reindex(columns=[*FIELDS, *(name for name in runs if name not in FIELDS)])
    # otherwise a column with only None would have the dtype object
    runs[[*NUMBERS]] = runs[[*NUMBERS]].apply(pd.to_numeric)
    return runs


def _summaries(folders: Folders, skipped: list[str]) -> Iterator[Row]:
    """Yield the record of each run with its ``path``, and add a sentence on each skipped record to ``skipped``."""
    for folder in [folders] if isinstance(folders, str | os.PathLike) else folders:
        place = os.fspath(folder)
        if place.startswith(WANDB):
            from roadmap.tracking.wandb_runs import wandb_summaries

            yield from wandb_summaries(place)
        elif is_place(place):
            for path in run_paths(place, skipped):
                try:
                    yield _read_summary(path) | {"path": path}
                except (OSError, ValueError) as error:
                    skipped.append(f"{os.path.join(path, SUMMARY)}: {reason(error)}")
        elif os.path.exists(place):
            # such as a picture that the shell found by runs/*
            skipped.append(f"{place}: neither a folder nor a file of `roadmap export`")
        else:
            raise RequestError(f"no folder {place}")


def _read_summary(folder: str) -> Row:
    """Return a run's record, with a definition and a variant even if it is old. Raises OSError or ValueError."""
    row: Row = read_json(os.path.join(folder, SUMMARY))
    converted(row, Summary)
    if row.get("definition") is None:
        row = row | {"definition": {key: row[key] for key in NAMED if key in row}}
    return row | {"schema": row.get("schema", 1), "variant": row.get("variant") or row.get("step") or row["run_id"]}


def read_history(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of ``load_history`` for ``runs``, and a sentence on each file with lines that were skipped.

    polars parses all regular files at once; other files are parsed line by line.
    """
    parts: list[pd.DataFrame] = []  # each with the position of the row's run in `runs` as its column `owner`
    skipped: list[str] = []
    exported: dict[str, dict[str, int]] = defaultdict(dict)
    owners: dict[str, int] = {}
    names: dict[str, None] = {}
    regular, irregular = [], []
    for owner, path in enumerate(runs["path"]):
        file = os.path.join(path, METRICS)
        owners[file] = owner
        if part := exported_part(path):
            exported[part[0]][part[1]] = owner
        elif path.startswith(WANDB):
            from roadmap.tracking.wandb_runs import wandb_history

            parts.append(pd.DataFrame(wandb_history(path)).assign(owner=owner))
        elif columns := _columns(file):
            regular.append(file)
            names |= dict.fromkeys(columns)
        elif os.path.isfile(file):
            irregular.append(file)
    for source, owner_of in exported.items():
        try:
            parts += list(_exported(source, owner_of))
        except RequestError as error:
            skipped.append(str(error).removeprefix("cannot read "))
    irregular += _parse_together(regular, owners, list(names), parts) if regular else []
    for file in irregular:
        parts.append(_line_by_line(file, skipped).assign(owner=owners[file]))
    labels = runs[["run_id", "variant", "step", "seed"]]
    if not (parts := [part for part in parts if len(part)]):
        return labels.iloc[:0], skipped
    rows = pd.concat(parts).sort_values("owner", kind="stable", ignore_index=True)
    labels = labels.iloc[rows.pop("owner").to_numpy()].reset_index(drop=True)
    return pd.concat([labels, rows.drop(columns=[name for name in labels if name in rows])], axis=1), skipped


def _exported(source: str, owners: dict[str, int]) -> Iterator[pd.DataFrame]:
    """Yield the metrics of runs in an exported file. Raises RequestError."""
    for line in opened(source).section("metrics"):
        if line.run in owners:
            try:
                columns = {name: np.array(values, float) for name, values in line.columns.items()}  # None is NaN
                yield pd.DataFrame(columns | {"epoch": columns["epoch"].astype(int), "owner": owners[line.run]})
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise RequestError(f"cannot read {source}: metrics of {line.run}: {error}") from error


def _tail(file: str) -> bytes:
    with open(file, "rb") as opened_file:
        opened_file.seek(max(0, os.path.getsize(file) - TAIL))
        return opened_file.read()


def _columns(file: str) -> list[str] | None:
    """The names in a file's lines if the last has all of them and both it and the first have finite numbers only.

    An earlier epoch may not have been evaluated.
    """
    try:
        with open(file, "rb") as opened_file:
            first = parse_json(opened_file.readline())
        tail = _tail(file)
        last = parse_json(tail.splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    if not (
        tail.endswith(b"\n") and isinstance(first, dict) and isinstance(last, dict) and first.keys() <= last.keys()
    ):
        return None
    numbers = all(type(value) in (int, float) and np.isfinite(value) for value in (*first.values(), *last.values()))
    return list(last) if numbers and "epoch" in first and "top1" in last else None


def _parse_together(files: list[str], owners: dict[str, int], names: list[str], parts: list[pd.DataFrame]) -> list[str]:
    """Parse files into ``parts``; return those that polars refuses, found by bisection."""
    import polars as pl

    schema = {name: pl.Int64 if name == "epoch" else pl.Float64 for name in names}
    owner = pl.col("owner").replace_strict(owners, return_dtype=pl.Int64)
    try:
        table = pl.scan_ndjson(files, schema=schema, include_file_paths="owner").with_columns(owner).collect()
    except (pl.exceptions.PolarsError, OSError):
        if len(files) == 1:
            return files
        halves = files[: len(files) // 2], files[len(files) // 2 :]
        return [file for half in halves for file in _parse_together(half, owners, names, parts)]
    parts.append(pd.DataFrame({name: table[name].to_numpy() for name in table.columns}, copy=False))
    return []


def _line_by_line(file: str, skipped: list[str]) -> pd.DataFrame:
    """The valid rows of a file; a sentence on the lines that cannot be read is added to ``skipped``."""
    try:
        lines = len(Path(file).read_bytes().splitlines())
        rows = read_metrics(Path(file))
    except (OSError, ValueError) as error:
        skipped.append(f"{file}: {error}")
        return pd.DataFrame()
    if lost := lines - len(rows):
        skipped.append(f"{file}: {lost} of {lines} lines cannot be read")
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class RunProgress:
    """A run's last line of metrics: the seconds of that epoch, and the last known top-1 in percent."""

    epoch: int
    epochs: float
    top1: float | None
    seconds: float


def progress(folder: str | os.PathLike[str], epochs: float) -> RunProgress | None:
    """Return the progress of the run in a folder; None in its first epoch."""
    rows: Iterable[Any]
    if part := exported_part(folder):
        rows = [opened(part[0]).last_rows.get(part[1])]
    else:
        try:
            rows = reversed(_tail(os.path.join(folder, METRICS)).splitlines())
        except OSError:
            return None
    last: EpochRow | None = None
    for text in rows:
        with suppress(ValueError):
            row: EpochRow = converted(parse_json(text) if isinstance(text, bytes) else text, EpochRow)
            last = last or row
            if row.top1 is not None:
                return RunProgress(last.epoch, epochs, row.top1, last.seconds or 0.0)
    return RunProgress(last.epoch, epochs, None, last.seconds or 0.0) if last else None


def in_words(done: RunProgress | None, epochs: float) -> str:
    """Return epoch, accuracy and time left as text."""
    if done is None:
        return f"in epoch 1 of {epochs:g}"
    left = duration((done.epochs - done.epoch) * done.seconds)
    top1 = "" if done.top1 is None else f"top-1 {done.top1:.2f} %, "
    return f"epoch {done.epoch} of {done.epochs:g}, {top1}{left} left"
