"""The record of an evaluation: one file a network and way of evaluating it, found again by what defines it.

``evaluations/KEY.json`` in the run's folder, written whole; beside it ``KEY.npz``, the predictions image by image, and
those of corrupted images in ``KEY/`` where they were asked for.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadmap.errors import WorkError
from roadmap.folders.runfolder import write_whole

EVALUATIONS = "evaluations"
EvaluationRecord = dict[str, Any]


def key_of(definition: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of the hash of everything that defines an evaluation's result."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def record_file(run: Path, key: str) -> Path:
    """Where a run's record of that key is."""
    return run / EVALUATIONS / f"{key}.json"


def read_record(file: Path) -> EvaluationRecord | None:
    """A record, or None where there is none that can be read."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and isinstance(record.get("parts"), list) and isinstance(record.get("key"), str)
    return record if whole else None


def write_record(file: Path, record: EvaluationRecord) -> None:
    """Write a record whole or not at all. Raises WorkError."""
    make_folder(file.parent)
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def make_folder(folder: Path) -> None:
    """Make a folder of results. Raises WorkError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot make folder {folder}: {error.strerror}; name a file elsewhere with -o") from error
