"""Logged runs and their histories as pandas tables. Reads records only and never imports torch."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.formatting import duration
from roadmap.runs.exported import opened
from roadmap.runs.records import exported_part, is_place, read_json, run_paths
from roadmap.runs.run_folder import METRICS, SUMMARY, read_metrics
from roadmap.schema.summary import NUMBERS, EpochRow, Summary
from roadmap.untrusted_io import parse_json, reason
from roadmap.validation import Int64, converted

Folders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Row = dict[str, Any]
Columns = dict[str, np.ndarray]

FIELDS = Summary.__struct_fields__  # columns of every table of runs; None where a record has no such field
NAMED = ("design", "recipe", "data", "seed", "epochs", "batch_size", "image_size", "precision")
WANDB = "wandb://"
NUMBERS_BY_NAME = msgspec.json.Decoder(dict[str, Int64 | float | None])  # a line of metrics.jsonl, if nothing is odd
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
    """Return the table of ``load_history`` for ``runs``, and a sentence on each file with lines that were skipped."""
    parts: list[pd.DataFrame] = []  # each with the position of the row's run in `runs` as its column `owner`
    skipped: list[str] = []
    exported: dict[str, dict[str, int]] = defaultdict(dict)
    numbers: list[Columns] = []
    for owner, path in enumerate(runs["path"]):
        file = os.path.join(path, METRICS)
        if part := exported_part(path):
            exported[part[0]][part[1]] = owner
        elif path.startswith(WANDB):
            from roadmap.tracking.wandb_runs import wandb_history

            parts.append(pd.DataFrame(wandb_history(path)).assign(owner=owner))
        elif os.path.isfile(file):
            columns = _columns(file)
            if columns is None:
                parts.append(_line_by_line(file, skipped).assign(owner=owner))
            else:
                numbers.append(columns | {"owner": np.full(len(columns["epoch"]), owner)})
    for source, owner_of in exported.items():
        try:
            parts += list(_exported(source, owner_of))
        except RequestError as error:
            skipped.append(str(error).removeprefix("cannot read "))
    names = dict.fromkeys(name for columns in numbers for name in columns)
    parts.append(pd.DataFrame({name: _joined(numbers, name) for name in names}, copy=False))
    labels = runs[["run_id", "variant", "step", "seed"]]
    if not (parts := [part for part in parts if len(part)]):
        return labels.iloc[:0], skipped
    rows = pd.concat(parts).sort_values("owner", kind="stable", ignore_index=True)
    labels = labels.iloc[rows.pop("owner").to_numpy()].reset_index(drop=True)
    return pd.concat([labels, rows.drop(columns=[name for name in labels if name in rows])], axis=1), skipped


def _columns(file: str) -> Columns | None:
    """The columns of a file that has only complete lines of numbers, else None; None is NaN."""
    try:
        rows = NUMBERS_BY_NAME.decode_lines(Path(file).read_bytes())
        columns = {name: np.array([row.get(name) for row in rows], float) for name in dict.fromkeys(chain(*rows))}
        if all(type(row["epoch"]) is int for row in rows):
            return columns | {"epoch": columns["epoch"].astype(int)}
    except (OSError, ValueError, KeyError):
        pass
    return None


def _joined(parts: Sequence[Columns], name: str) -> np.ndarray:
    return np.concatenate([part[name] if name in part else np.full(len(part["epoch"]), np.nan) for part in parts])


def _exported(source: str, owners: dict[str, int]) -> Iterator[pd.DataFrame]:
    """Yield the metrics of runs in an exported file. Raises RequestError."""
    for line in opened(source).section("metrics"):
        if line.run in owners:
            try:
                columns = {name: np.array(values, float) for name, values in line.columns.items()}  # None is NaN
                yield pd.DataFrame(columns | {"epoch": columns["epoch"].astype(int), "owner": owners[line.run]})
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise RequestError(f"cannot read {source}: metrics of {line.run}: {error}") from error


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
            with open(os.path.join(folder, METRICS), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                rows = reversed(file.read().splitlines())
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
    if done is None:
        return f"in epoch 1 of {epochs:g}"
    left = duration((done.epochs - done.epoch) * done.seconds)
    top1 = "" if done.top1 is None else f"top-1 {done.top1:.2f} %, "
    return f"epoch {done.epoch} of {done.epochs:g}, {top1}{left} left"
