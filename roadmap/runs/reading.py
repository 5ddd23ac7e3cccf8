"""Logged runs and their histories as pandas tables. Reads records only and never imports torch."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from roadmap.errors import RequestError
from roadmap.gc_paused import gc_paused
from roadmap.runs.records import exported_part, is_place, read_json, run_paths
from roadmap.runs.run_folder import METRICS, SUMMARY
from roadmap.schema.summary import NUMBERS, Summary
from roadmap.untrusted_io import reason
from roadmap.validation import converted

Folders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Row = dict[str, Any]

FIELDS = Summary.__struct_fields__  # columns of every table of runs; None where a record has no such field
BY_NAME = "known by name only"  # key of definitions that stand in for a missing one in an old record
WANDB = "wandb://"


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
    with gc_paused():
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
    for name in NUMBERS:
        # otherwise a column with only None would have the dtype object
        runs[name] = pd.to_numeric(runs[name])
    return runs


def read_history(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of ``load_history`` for ``runs``, and a sentence on each file with skipped lines."""
    from roadmap.runs.histories import read_histories

    labels = runs[["run_id", "variant", "step", "seed"]].reset_index(drop=True)
    files = [Path(path) / METRICS for path in runs["path"]]
    readable = [number for number, file in enumerate(files) if exported_part(file) or file.is_file()]
    rows, owner, skipped = read_histories([files[number] for number in readable])
    owner = labels.index.to_numpy()[readable][owner]
    rows = rows.drop(columns=[name for name in labels if name in rows])
    history = pd.concat([labels.take(owner).reset_index(drop=True), rows], axis=1)
    online = [path for path in runs["path"] if path.startswith(WANDB)]
    return (pd.concat([history, _online(online)], ignore_index=True) if online else history), skipped


def _online(addresses: list[str]) -> pd.DataFrame:
    from roadmap.tracking.wandb_runs import wandb_histories

    return pd.DataFrame([row for address in addresses for row in wandb_histories(address)])


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
    """Return a run's record, with a definition and a variant even if it is old. Raises ValueError."""
    try:
        row = read_json(os.path.join(folder, SUMMARY))
    except FileNotFoundError:
        raise ValueError("the file does not exist") from None
    record = msgspec.structs.asdict(converted(row, Summary))
    row = {name: record.get(name, value) for name, value in row.items()} | {"schema": record["schema"]}
    if row.get("definition") is None:
        row["definition"] = _definition_by_name(row)
    if row.get("variant") is None:
        row["variant"] = row.get("step") or row["run_id"]
    return row


def _definition_by_name(summary: Row) -> dict[str, Any]:
    """Return a definition for a record that has none: its conditions, as far as it has their names."""
    keys = ("design", "recipe", "data", "seed", "epochs", "batch_size", "image_size", "precision")
    return {BY_NAME: True} | {key: summary[key] for key in keys if key in summary}
