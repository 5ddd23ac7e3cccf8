"""Logged runs as pandas tables. Reads records only; never imports torch."""

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

# What every table of runs has, whatever version wrote their records; None where a record has it not.
FIELDS = Summary.__struct_fields__
BY_NAME = "known by name only"  # marks what stands for the definition of a record that has none
WANDB = "wandb://"


def load_runs(folders: Folders) -> pd.DataFrame:
    """One row a run under ``folders``, searched recursively: the fields of its summary.json, and its ``path``.

    A place may be a file of ``roadmap export`` too, or such a file's path and a run in it, and a folder may hold such
    files. A folder below with a file ``.exclude`` is left out: it is read when it is named itself, as the examples are.
    ``wandb://ENTITY/PROJECT`` among them is a project at Weights & Biases, read through its API.

    Accuracies in percent, times in seconds, memory in GiB, MACs and parameters ×10⁹ and ×10⁶. Fields that an older
    version did not write are missing values. A record that cannot be read is named in a warning and skipped; of two
    copies of a run the one ended last stays. Raises RequestError for a folder or a project that does not exist, and
    WorkError where W&B does not answer.
    """
    runs, skipped = read_runs(folders)
    _warn(skipped)
    return runs


def load_history(folders: Folders) -> pd.DataFrame:
    """One row a run and epoch: the fields of metrics.jsonl, with the run's id, variant, step and seed.

    Accuracies in percent, times in seconds. Lines that cannot be read are counted in a warning that names the file.
    """
    runs, skipped = read_runs(folders)
    history, lost = read_history(runs)
    _warn(skipped + lost)
    return history


def _warn(skipped: list[str]) -> None:
    for sentence in skipped:
        warnings.warn(f"skipped {sentence}", stacklevel=3)


def read_runs(folders: Folders) -> tuple[pd.DataFrame, list[str]]:
    """The table of ``load_runs``, and a sentence about each record that was skipped."""
    with gc_paused():
        summaries, skipped = read_summaries(folders)
        return runs_table(summaries), skipped


def read_summaries(folders: Folders) -> tuple[list[Row], list[str]]:
    """The record of each run with its ``path``, and a sentence about each record that was skipped."""
    summaries: dict[str, Row] = {}
    skipped: list[str] = []
    for summary in _summaries(folders, skipped):
        other = summaries.get(summary["run_id"])
        if other is None or (summary.get("ended") or "") > (other.get("ended") or ""):
            summaries[summary["run_id"]] = summary
    return list(summaries.values()), skipped


def runs_table(summaries: list[Row]) -> pd.DataFrame:
    """The table of ``load_runs`` of records."""
    if not summaries:
        return pd.DataFrame(columns=[*FIELDS, "path"])
    runs = pd.DataFrame(summaries)
    runs = runs.reindex(columns=[*FIELDS, *(name for name in runs if name not in FIELDS)])
    for name in NUMBERS:
        # a column that is None in every run would be of objects
        runs[name] = pd.to_numeric(runs[name])
    return runs


def read_history(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table of ``load_history`` for the given runs, and a sentence about each file with lines that were skipped."""
    from roadmap.runs.histories import read_histories

    marks = runs[["run_id", "variant", "step", "seed"]].reset_index(drop=True)
    files = [Path(path) / METRICS for path in runs["path"]]
    here = [number for number, file in enumerate(files) if exported_part(file) or file.is_file()]
    rows, owner, skipped = read_histories([files[number] for number in here])
    owner = marks.index.to_numpy()[here][owner]
    rows = rows.drop(columns=[name for name in marks if name in rows])
    history = pd.concat([marks.take(owner).reset_index(drop=True), rows], axis=1)
    online = [path for path in runs["path"] if path.startswith(WANDB)]
    return (pd.concat([history, _online(online)], ignore_index=True) if online else history), skipped


def _online(addresses: list[str]) -> pd.DataFrame:
    from roadmap.tracking.wandb_runs import wandb_histories

    return pd.DataFrame([row for address in addresses for row in wandb_histories(address)])


def _summaries(folders: Folders, skipped: list[str]) -> Iterator[Row]:
    """The record of each run, with its ``path``."""
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
            # as a shell's runs/* brings them
            skipped.append(f"{place}: no folder and no file of `roadmap export`")
        else:
            raise RequestError(f"no folder {place}")


def _read_summary(folder: str) -> Row:
    """A run's record with what grouping needs. Raises ValueError."""
    try:
        row = read_json(os.path.join(folder, SUMMARY))
    except FileNotFoundError:
        raise ValueError("is not there, so nothing says what was run") from None
    record = msgspec.structs.asdict(converted(row, Summary))
    row = {name: record.get(name, value) for name, value in row.items()} | {"schema": record["schema"]}
    if row.get("definition") is None:
        row["definition"] = _definition_by_name(row)
    if row.get("variant") is None:
        row["variant"] = row.get("step") or row["run_id"]
    return row


def _definition_by_name(summary: Row) -> dict[str, Any]:
    """For records from before runs said what defines them: their conditions as far as they have names."""
    keys = ("design", "recipe", "data", "seed", "epochs", "batch_size", "image_size", "precision")
    return {BY_NAME: True} | {key: summary[key] for key in keys if key in summary}
