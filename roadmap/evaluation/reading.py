"""Records of ``roadmap evaluate`` as a pandas table, without importing torch."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.evaluations import read_evaluation
from roadmap.runs.reading import Folders
from roadmap.runs.records import files_below, is_file, is_place
from roadmap.untrusted_io import reason

# fields of a record that each of its rows repeats
SHARED = (
    *("key", "conditions", "label", "run_id", "regime", "step", "variant", "recipe", "seed", "epochs"),
    *("data", "image_size", "resize", "crop_ratio", "interpolation", "precision", "num_classes", "device", "ended"),
)
PART = ("images", "left_out", "top1", "top5", "loss", "ece", "ece_floor")
COLUMNS = (*SHARED, "checkpoint", "epoch", "weights", "part", "corruption", "severity", *PART, "path")


def load_evaluations(folders: Folders) -> pd.DataFrame:
    """Return one row per part of each evaluation in ``folders``, searched recursively, or in files written with ``-o``.

    ``part`` is empty for a whole data set, otherwise such as "gaussian_noise/3"; ``corruption`` and ``severity`` split
    it. ``top1``, ``top5``, ``ece`` and ``ece_floor`` (``calibration_floor``) are in percent, and ``loss`` is the mean
    over ``images``. ``conditions`` is equal for evaluations on the same images at the same size, crop and precision;
    ``key`` is equal if the weights are too. ``path`` is the record's file. Unreadable records are skipped with a
    warning. Raises RequestError for a folder that does not exist.
    """
    table, skipped = read_evaluations(folders)
    for sentence in skipped:
        warnings.warn(f"skipped {sentence}", stacklevel=2)
    return table


def read_evaluations(folders: Folders) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of ``load_evaluations``, and why records were skipped."""
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for folder in [folders] if isinstance(folders, str | os.PathLike) else folders:
        for file in _files(Path(folder), skipped):
            try:
                record = read_evaluation(file)
            except (OSError, ValueError) as error:
                skipped.append(f"{file}: {reason(error)}")
            else:
                rows += [row | {"path": str(file)} for row in evaluation_rows(record)]
    return pd.DataFrame(rows, columns=[*COLUMNS]), skipped


def evaluation_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row per part of a record, without ``path``."""
    shared = {name: record.get(name) for name in SHARED} | {"resize": record.get("resize", "shorter_side")}
    checkpoint = record.get("checkpoint") or {}
    shared |= {"checkpoint": checkpoint.get("file")} | {key: checkpoint.get(key) for key in ("epoch", "weights")}
    for part in record["parts"]:
        corruption, _, severity = part["part"].partition("/")
        split = {"corruption": corruption or None, "severity": int(severity) if severity else None}
        yield shared | {"part": part["part"]} | split | {name: part.get(name) for name in PART}


def paired_files(first: str, second: str) -> Iterator[tuple[str, Path, Path]]:
    """Yield pairs of prediction files of two runs' evaluations under the same conditions, each with a description."""
    ours, theirs = (_predictions(Path(run)) for run in (first, second))
    for key, (description, file) in ours.items():
        if key in theirs:
            yield description, file, theirs[key][1]


def _predictions(run: Path) -> dict[tuple[str, str, str], tuple[str, Path]]:
    """Return description and file of a run's predictions, by conditions and checkpoint."""
    found = {}
    for file in _files(run, []):
        with suppress(OSError, ValueError):
            record, predictions = read_evaluation(file), file.with_suffix(".npz")
            if is_file(predictions):
                which, weights = record["checkpoint"]["file"], record["checkpoint"]["weights"]
                description = f"{record['data']} at {record['image_size']} pixels, {weights} of {which}"
                found[record["conditions"], which, weights] = description, predictions
    return found


def _files(place: Path, skipped: list[str]) -> Iterator[Path]:
    """Yield a file itself, or the records in a folder."""
    if is_file(place):
        yield place
    elif is_place(place):
        yield from files_below(place, "evaluations/*.json", skipped)
    else:
        raise RequestError(f"no folder {place}")
