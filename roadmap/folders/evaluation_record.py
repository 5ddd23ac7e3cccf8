"""The record of an evaluation: one file a network and way of evaluating it, found again by what defines it.

``evaluations/KEY.json`` in the run's folder, written whole; beside it ``KEY.npz``, the predictions image by image, and
those of corrupted images in ``KEY/`` where they were asked for.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadmap.errors import WorkError
from roadmap.folders.runfolder import write_whole
from roadmap.foreign import check_fields, parse_json

EVALUATIONS = "evaluations"
# a part's name: empty for a whole data set, else a corruption and its severity
PART = re.compile(r"([a-z0-9_]+/[0-9]{1,9})?")
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
        return whole_record(file)
    except (OSError, ValueError):
        return None


def whole_record(file: Path) -> EvaluationRecord:
    """A record. Raises OSError where it cannot be read, and ValueError, in words, where it is none or a damaged one."""
    record = parse_json(file.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not isinstance(record.get("parts"), list):
        raise ValueError("no evaluation's record: it has no parts")
    check_fields(record, "a word", ("key", "conditions", "label", "data", "interpolation", "precision"), needed=True)
    check_fields(record, "a word", ("run_id", "regime", "step", "variant", "recipe", "device", "ended"))
    check_fields(record, "a whole number", ("image_size", "num_classes"), needed=True)
    check_fields(record, "a whole number", ("seed", "epochs"))
    check_fields(record, "a number", ("crop_ratio",), needed=True)
    check_fields(record, "true or false", ("chosen_on_these_images",), needed=True)
    check_fields(record, "an object", ("checkpoint",), needed=True)
    check_fields(record["checkpoint"], "a word", ("file", "weights"), needed=True)
    check_fields(record["checkpoint"], "a whole number", ("epoch",))
    for part in record["parts"]:
        _check_part(part)
    whole = any(not part["part"] for part in record["parts"])
    check_fields(record, "a list of numbers", ("class_top1", "class_images"), needed=whole)
    return record


def _check_part(part: Any) -> None:
    if not isinstance(part, dict) or not isinstance(part.get("part"), str) or not PART.fullmatch(part["part"]):
        raise ValueError("one of its parts has no name such as 'gaussian_noise/3'")
    check_fields(part, "a whole number", ("images", "left_out"), needed=True)
    check_fields(part, "a number", ("top1",), needed=True)
    check_fields(part, "a number", ("top5", "loss", "ece"))


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
