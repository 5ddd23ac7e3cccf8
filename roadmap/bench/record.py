"""The record of a bench: counts of every network, measurements in each mode, and the machine."""

import json
import platform
import secrets
import statistics
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from roadmap.bench.models import Bench, BenchEntry
from roadmap.bench.timing import Mode, NetworkTimer, time_interleaved
from roadmap.config.build import network_cost
from roadmap.runs.run_folder import now, one_name, write_whole
from roadmap.runtime.device import processor
from roadmap.validation import SCHEMA
from roadmap.versions import git_commit, package_versions

Record = dict[str, Any]


def counted(bench: Bench) -> Record:
    """Return the record without measurements: each network's design, counts and published numbers."""
    return {"name": bench.name, "reference": bench.reference, "rows": [_row(entry) for entry in bench.entries]}


def _row(entry: BenchEntry) -> Record:
    composed, cost = entry.composed, network_cost(entry.composed)
    return {
        "name": entry.name,
        "variant": composed.variant,
        "regime": composed.regime.name,
        "design": composed.design.to_dict(),
        "layer_scale": composed.recipe.network.layer_scale is not None,
        "num_classes": composed.regime.num_classes,
        **{key: getattr(composed.settings, key) for key in ("image_size", "precision", "channels_last")},
        "compile": composed.settings.compile is True,
        "params": cost.params,
        "gmacs": cost.gmacs,
        "params_m": cost.params_m,
        "activations_m": cost.activations / 1e6,
        "published": entry.published,
        "why": entry.why,
    }


def measured(bench: Bench, overrides: Sequence[str], device: torch.device) -> Record:
    """Measure a bench and return its record.

    A network that fails in a mode has an ``error`` there. Raises WorkError if memory runs out during the rounds.
    """
    started, found, settings = now(), counted(bench), bench.settings
    batch_size = bench.entries[0].composed.settings.batch_size
    for mode in settings.measure:
        batch = 1 if mode == "latency" else batch_size
        timers = {entry.name: NetworkTimer(entry.composed, mode, batch, device) for entry in bench.entries}
        outcomes = time_interleaved(timers, settings)
        for row in found["rows"]:
            row[mode] = outcomes[row["name"]]
        add_summaries(found["rows"], mode, bench.reference)
    ended = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return {
        "schema": SCHEMA,
        "bench_id": one_name(bench.name, device.type, ended, secrets.token_hex(5)),
        "started": started,
        "ended": now(),
        "git_commit": git_commit(),
        "overrides": list(overrides),
        **environment(device),
        "settings": settings.to_dict() | {"batch_size": batch_size, "tf32": device.type == "cuda"},
        **found,
    }


def add_summaries(rows: Sequence[Record], mode: Mode, reference: str) -> None:
    """Add ``images_per_second``, ``milliseconds`` (latency) and ``relative`` to each row's outcome without an error.

    All are over rounds; ``relative`` is the speed relative to the row ``reference``.
    """
    known = {row["name"]: row[mode] for row in rows if "error" not in row[mode]}
    rates = {name: [found["batch"] / seconds for seconds in found["seconds"]] for name, found in known.items()}
    for name, outcome in known.items():
        outcome["images_per_second"] = median_and_quartiles(rates[name])
        if mode == "latency":
            outcome["milliseconds"] = median_and_quartiles([1000 * seconds for seconds in outcome["seconds"]])
        if reference in rates:
            ratios = [one / other for one, other in zip(rates[name], rates[reference], strict=True)]
            outcome["relative"] = median_and_quartiles(ratios)


def median_and_quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the ``median`` and the quartiles ``low`` and ``high``, interpolated as in NumPy."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def environment(device: torch.device) -> Record:
    """Return the device (named as in records of runs), processor, threads, system and versions."""
    versions = {"python": platform.python_version()} | package_versions()
    with suppress(PackageNotFoundError):
        versions["timm"] = version("timm")
    if device.type == "cuda":
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
    }


def write_record(record: Record, folder: Path) -> Path:
    file = folder / f"{record['bench_id']}.json"
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return file
