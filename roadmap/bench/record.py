"""The record of a bench: counts of every network, then measurements in each mode."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from roadmap.bench.environment import environment
from roadmap.bench.interleaved_timing import Log, Mode, NetworkTimer, time_interleaved
from roadmap.bench.models import Bench, BenchEntry
from roadmap.bench.summaries import add_summaries
from roadmap.bench.timing import Clock, clock
from roadmap.config.build import build_network, network_cost
from roadmap.runs.run_folder import now, one_name, write_whole
from roadmap.training.summary import git_commit
from roadmap.validation import SCHEMA

Record = dict[str, Any]


def counted(bench: Bench) -> Record:
    """The record without measurements: each network's design, counts and published numbers."""
    rows = [_row(entry) for entry in bench.entries]
    return {"name": bench.name, "reference": bench.reference, "rows": rows}


def _row(entry: BenchEntry) -> Record:
    composed, count = entry.composed, network_cost(entry.composed)
    settings = composed.settings
    return {
        "name": entry.name,
        "variant": composed.variant,
        "regime": composed.regime.name,
        "design": composed.design.to_dict(),
        "layer_scale": composed.recipe.network.layer_scale is not None,
        "num_classes": composed.regime.num_classes,
        **{key: getattr(settings, key) for key in ("image_size", "precision", "channels_last", "compile")},
        "params": count.params,
        "gmacs": count.gmacs,
        "params_m": count.params_m,
        "activations_m": count.activations / 1e6,
        "published": entry.published,
        "why": entry.why,
        "against": entry.against,
    }


def measured(
    bench: Bench, overrides: Sequence[str], device: torch.device, log: Log, seconds: Clock | None = None
) -> Record:
    """Measure a bench and return its record; ``seconds`` replaces the device's clock.

    A network that fails in a mode has an ``error`` there. Raises WorkError if memory runs out during the rounds.
    """
    started, found, settings = now(), counted(bench), bench.settings
    batch_size = bench.entries[0].composed.settings.batch_size
    for mode in settings.measure:
        timers = {}
        for entry, row in zip(bench.entries, found["rows"], strict=True):
            make, batch = partial(build_network, entry.composed), 1 if mode == "latency" else batch_size
            timers[entry.name] = _timer(make, row, mode, batch, device, seconds or clock(device))
        outcomes = time_interleaved(timers, settings, log)
        for row in found["rows"]:
            row[mode] = outcomes[row["name"]]
    add_summaries(found["rows"], settings.measure, bench.reference)
    how = settings.to_dict() | {"batch_size": batch_size, "tf32": device.type == "cuda"}
    head: Record = {"schema": SCHEMA, "bench_id": _new_id(bench.name, device, how)}
    head |= {"started": started, "ended": now()}
    head |= {"git_commit": git_commit(), "overrides": list(overrides), **environment(device), "settings": how}
    return head | found


def _timer(make: Any, row: Record, mode: Mode, batch: int, device: torch.device, seconds: Clock) -> NetworkTimer:
    how = {"precision": row["precision"], "channels_last": row["channels_last"], "compiled": row["compile"]}
    return NetworkTimer(make, row["params"], mode, row["image_size"], batch=batch, device=device, clock=seconds, **how)


def _new_id(name: str, device: torch.device, how: Record) -> str:
    """Name, device, time and a hash that distinguishes benches of the same second."""
    text = json.dumps([name, how, time.time_ns(), os.getpid()], sort_keys=True)
    digits = hashlib.sha256(text.encode()).hexdigest()[:10]
    return one_name(name, device.type, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), digits)


def write_record(record: Record, runs_dir: str) -> Path:
    """Write the record atomically and return its file."""
    file = bench_folder(runs_dir) / f"{record['bench_id']}.json"
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return file


def bench_folder(runs_dir: str) -> Path:
    """The folder of bench records."""
    return Path(runs_dir) / "bench"
