"""Records of ``roadmap evaluate`` as a pandas table. Reads records only; never imports torch."""

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.evaluation_record import EVALUATIONS, read_record, whole_record
from roadmap.runs.reading import Folders
from roadmap.runs.records import files_below, is_file, is_place
from roadmap.untrusted_io import reason

Folder = str | os.PathLike[str]
# of a record, what each of its rows repeats
SHARED = (
    *("key", "conditions", "label", "run_id", "regime", "step", "variant", "recipe", "seed", "epochs"),
    *("data", "image_size", "crop_ratio", "interpolation", "precision", "num_classes", "device", "ended"),
)
PART = ("images", "left_out", "top1", "top5", "loss", "ece")
COLUMNS = (*SHARED, "checkpoint", "epoch", "weights", "part", "corruption", "severity", *PART, "path")


def load_evaluations(folders: Folders) -> pd.DataFrame:
    """One row a part of an evaluation under ``folders``, searched recursively; a file of ``-o`` may be named too.

    ``part`` is empty for a whole data set, else as "gaussian_noise/3", with its ``corruption`` and ``severity`` apart;
    ``top1``, ``top5`` and ``ece`` in percent, ``loss`` the mean, over ``images``. ``conditions`` is equal for
    evaluations on the same images at the same size, crop and precision, ``key`` for those of the same weights too.
    ``path`` is the record's file. What cannot be read is named in a warning and skipped. Raises RequestError for a
    folder that does not exist.
    """
    table, skipped = read_evaluations(folders)
    for sentence in skipped:
        warnings.warn(f"skipped {sentence}", stacklevel=2)
    return table


def read_evaluations(folders: Folders) -> tuple[pd.DataFrame, list[str]]:
    """The table of ``load_evaluations``, and a sentence about each record that was skipped."""
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for file in _files([folders] if isinstance(folders, str | os.PathLike) else folders, skipped):
        try:
            record = whole_record(file)
        except (OSError, ValueError) as error:
            skipped.append(f"{file}: {reason(error)}")
            continue
        rows += [row | {"path": str(file)} for row in evaluation_rows(record)]
    return pd.DataFrame(rows, columns=[*COLUMNS]), skipped


def evaluation_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A record's rows, one a part, without ``path``."""
    shared = {name: record.get(name) for name in SHARED}
    checkpoint = record.get("checkpoint") or {}
    shared |= {"checkpoint": checkpoint.get("file"), "epoch": checkpoint.get("epoch")}
    shared |= {"weights": checkpoint.get("weights")}
    for part in record["parts"]:
        corruption, _, severity = part["part"].partition("/")
        apart = {"corruption": corruption or None, "severity": int(severity) if severity else None}
        yield shared | {"part": part["part"]} | apart | {name: part.get(name) for name in PART}


def paired_files(first: Folder, second: Folder) -> Iterator[tuple[str, Path, Path]]:
    """The files of predictions of two runs' evaluations on the same images in the same way, and what these are."""
    ours, theirs = (_predictions(folder) for folder in (first, second))
    for way, (words, file) in ours.items():
        if way in theirs:
            yield words, file, theirs[way][1]


def _predictions(folder: Folder) -> dict[tuple[Any, ...], tuple[str, Path]]:
    """Of a run's evaluations with predictions, by how they were made: what was evaluated, and the file."""
    found = {}
    for file in _files([folder], []):
        record, predictions = read_record(file), file.with_suffix(".npz")
        if record is not None and is_file(predictions):
            checkpoint = record["checkpoint"]
            words = (
                f"{record['data']} at {record['image_size']} pixels, {checkpoint['weights']} of {checkpoint['file']}"
            )
            found[record["conditions"], checkpoint["file"], checkpoint["weights"]] = words, predictions
    return found


def _files(folders: Any, skipped: list[str]) -> Iterator[Path]:
    for folder in folders:
        place = Path(folder)
        if is_file(place):
            yield place
        elif is_place(place):
            yield from files_below(place, f"{EVALUATIONS}/*.json", skipped)
        else:
            raise RequestError(f"no folder {place}")
