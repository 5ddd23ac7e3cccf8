"""The differences between two runs: config, code, environment, result, and predictions of the same images."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roadmap.errors import RequestError
from roadmap.formatting import flatten_dict
from roadmap.runs.evaluations import read_predictions
from roadmap.runs.reading import read_runs
from roadmap.runs.records import is_place, read_text
from roadmap.untrusted_io import parse_yaml

CODE = ("git_commit", "versions")
ENVIRONMENT = ("device", "device_name", "threads", "processes", "micro_batch_size", "accumulation", "batch_norm_images")
RESULT = (
    *("status", "error", "gmacs", "params_m", "activations_m", "train_images", "val_images", "num_classes"),
    *("top1", "top5", "best_top1", "evaluated_epochs", "ema_top1", "train_seconds", "images_per_second", "data_wait"),
    *("peak_memory_gb", "skipped_updates", "corrupt_images"),
)
# Keys of the composed config that are part of the definition, or only name or place the run.
NOT_SETTINGS = (
    *(
        "design",
        "recipe",
        "data",
        "regime",
        "path",
        "step",
        "steps",
        "seeds",
        "runs_dir",
        "resume",
        "logger",
        "experiment",
    ),
)
RESAMPLES = 9999
EXACT_BELOW = 25  # discordant images; the usual bound of the chi-squared approximation


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
    known = {*ENVIRONMENT, *(entry.key for entry in entries)}
    for kind, keys in (("code", CODE), ("environment", ENVIRONMENT), ("result", RESULT)):
        entries += _differing(kind, *({key: run[key] for key in keys if key in run} for run in (first, second)))
    one, other = _settings(first), _settings(second)
    if one and other:  # runs from W&B have no config file
        entries += [entry for entry in _differing("environment", one, other) if entry.key not in known]
    kinds = ("config", "code", "environment", "result")
    return sorted(entries, key=lambda entry: kinds.index(entry.kind))


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


@dataclass(frozen=True)
class Paired:
    """The result for two networks on the same ``images``.

    ``difference`` is the second accuracy minus the first in points, with the 95 % percentile interval ``low`` to
    ``high`` from 9,999 bootstrap resamples of the images. ``p`` is McNemar's: under its hypothesis, an image that only
    one network classifies correctly is equally likely to be the first's or the second's. Neither says anything about
    other seeds of these networks, which often differ by more.
    """

    images: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        p = "< 0.0001" if self.p < 1e-4 else f"= {self.p:.2g}"
        return (
            f"on the same {self.images:,} images the second run is right on {self.only_second:,} that the first gets "
            f"wrong, and wrong on {self.only_first:,} that it gets right: {self.difference:+.2f} points (95 % "
            f"bootstrap interval {self.low:+.2f} to {self.high:+.2f}; McNemar's p {p}); "
            "this is the uncertainty from the test images for these two trained networks, not from the training seed"
        )


def compare_predictions(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Paired:
    """Compare the saved predictions of two runs, given as run folders or files of predictions.

    Raises RequestError if predictions cannot be read or are not of the same images.
    """
    one, other = read_predictions(first), read_predictions(second)
    about = [{"data": each.images.data, "images": len(each.labels)} | asdict(each.images) for each in (one, other)]
    differ = [f"{key} ({value} and {about[1][key]})" for key, value in about[0].items() if value != about[1][key]]
    if differ or not np.array_equal(one.labels, other.labels):
        raise RequestError(
            f"the predictions of {first} and {second} cannot be paired: they differ in {(*differ, 'labels')[0]}; "
            "choose two runs evaluated on the same images"
        )
    from statsmodels.stats.contingency_tables import mcnemar

    images = len(one.labels)
    only_first, only_second = int(np.sum(one.right & ~other.right)), int(np.sum(other.right & ~one.right))
    table = [[images - only_first - only_second, only_first], [only_second, 0]]  # only these two matter
    # The difference of an image is 1, -1 or 0, so a resample of the images is one draw of these three counts.
    shares = np.array([only_second, only_first, table[0][0]]) / images
    draws = np.random.default_rng(0).multinomial(images, shares, size=RESAMPLES)
    low, high = np.quantile(100 * (draws[:, 0] - draws[:, 1]) / images, [0.025, 0.975])
    return Paired(
        images=images,
        only_first=only_first,
        only_second=only_second,
        difference=100 * (only_second - only_first) / images,
        low=float(low),
        high=float(high),
        p=float(mcnemar(table, exact=only_first + only_second < EXACT_BELOW).pvalue),
    )
