"""The differences between two runs: config, code, environment and result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadmap.errors import RequestError
from roadmap.formatting import flatten_dict
from roadmap.runs.reading import read_runs
from roadmap.runs.records import is_place, read_text
from roadmap.untrusted_io import parse_yaml

CODE = ("git_commit", "versions")
ENVIRONMENT = ("device", "processes", "micro_batch_size", "accumulation", "batch_norm_images")
RESULT = (
    *("status", "error", "gmacs", "params_m", "activations_m", "train_images", "val_images", "num_classes"),
    *("top1", "top5", "best_top1", "ema_top1", "train_seconds", "images_per_second", "data_wait", "peak_memory_gb"),
    *("skipped_updates", "corrupt_images"),
)
# Keys of the composed config that are part of the definition, or only name or place the run.
NOT_SETTINGS = (
    "design",
    "recipe",
    "data",
    "regime",
    "path",
    "step",
    "seeds",
    "runs_dir",
    "resume",
    "logger",
    "experiment",
)


@dataclass(frozen=True)
class Entry:
    """A difference of one ``kind`` (config, code, environment or result): the dotted key and both values."""

    kind: str
    key: str
    first: Any
    second: Any


def one_run(place: str) -> dict[str, Any]:
    """The record of the run in a folder. Raises RequestError if there is none or more than one."""
    folder = Path(place).parent if Path(place).is_file() and not is_place(place) else Path(place)
    runs, skipped = read_runs(folder)
    if len(runs) != 1:
        reason = skipped[0] if skipped and not len(runs) else f"it holds {len(runs)} runs"
        raise RequestError(f"{place} is not one run's folder: {reason}")
    return {str(key): value for key, value in runs.iloc[0].to_dict().items()}


def run_diff(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Entry]:
    """All entries in which two records differ, the definition's first; the value of a missing entry is None."""
    entries = _differing("config", first["definition"], second["definition"])
    known = {entry.key for entry in entries}
    for kind, keys in (("code", CODE), ("environment", ENVIRONMENT)):
        entries += _differing(kind, _part(first, keys), _part(second, keys))
    one, other = _settings(first), _settings(second)
    # runs from W&B have no config file
    settings = _differing("environment", one, other) if one and other else []
    entries += [entry for entry in settings if entry.key not in known and entry.key not in ENVIRONMENT]
    return entries + _differing("result", _part(first, RESULT), _part(second, RESULT))


def _part(record: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: record[key] for key in keys if key in record}


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a run's composed config that are not in its definition; empty without a config."""
    try:
        config = parse_yaml(read_text(Path(record["path"], ".hydra", "config.yaml")))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    return {key: value for key, value in config.items() if key not in NOT_SETTINGS and key not in record["definition"]}


def _differing(kind: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Entry]:
    one, other = flatten_dict(first), flatten_dict(second)
    keys = [key for key in {**one, **other} if not _same(one.get(key), other.get(key))]
    return [Entry(kind, key, one.get(key), other.get(key)) for key in keys]


def _same(first: Any, second: Any) -> bool:
    # pandas' missing value NaN is not equal to itself, and may stand for None
    return first == second or (first != first and second != second) or {str(first), str(second)} == {"nan", "None"}
