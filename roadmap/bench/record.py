"""A bench from its request to its record: counts of every network, then each mode measured in turn."""

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
from roadmap.bench.interleaved_timing import Mode, Say, Turn, take_turns
from roadmap.bench.models import Bench, BenchEntry
from roadmap.bench.summaries import summarised
from roadmap.bench.timing import Clock, clock
from roadmap.config.build import build_network, network_cost
from roadmap.runs.run_folder import now, one_name, write_whole
from roadmap.training.summary import git_commit
from roadmap.validation import SCHEMA

Record = dict[str, Any]


def counted(bench: Bench) -> Record:
    """The record without measurements: what each network is, what it costs, what the paper prints of it."""
    rows = [_row(contender) for contender in bench.contenders]
    return {"name": bench.name, "reference": bench.reference, "rows": rows}


def _row(contender: BenchEntry) -> Record:
    composed, count = contender.composed, network_cost(contender.composed)
    settings = composed.settings
    return {
        "name": contender.name,
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
        "published": contender.published,
        "why": contender.why,
        "against": contender.against,
    }


def measured(
    bench: Bench, overrides: Sequence[str], device: torch.device, say: Say, seconds: Clock | None = None
) -> Record:
    """The record of a bench that is carried out now; ``seconds`` is the device's clock unless another is given.

    A network that does not run has ``error`` in a mode's place, and the others go on. Raises WorkError where the
    device's memory is not what it was.
    """
    started, found, settings = now(), counted(bench), bench.settings
    batch_size = bench.contenders[0].composed.settings.batch_size
    for mode in settings.measure:
        turns = {}
        for contender, row in zip(bench.contenders, found["rows"], strict=True):
            make, batch = partial(build_network, contender.composed), 1 if mode == "latency" else batch_size
            turns[contender.name] = _turn(make, row, mode, batch, device, seconds or clock(device))
        outcomes = take_turns(turns, settings, say)
        for row in found["rows"]:
            row[mode] = outcomes[row["name"]]
    summarised(found["rows"], settings.measure, bench.reference)
    how = settings.to_dict() | {"batch_size": batch_size, "tf32": device.type == "cuda"}
    head: Record = {"schema": SCHEMA, "bench_id": _new_id(bench.name, device, how)}
    head |= {"started": started, "ended": now()}
    head |= {"git_commit": git_commit(), "overrides": list(overrides), **environment(device), "settings": how}
    return head | found


def _turn(make: Any, row: Record, mode: Mode, batch: int, device: torch.device, seconds: Clock) -> Turn:
    how = {"precision": row["precision"], "channels_last": row["channels_last"], "compiled": row["compile"]}
    return Turn(make, row["params"], mode, row["image_size"], batch=batch, device=device, clock=seconds, **how)


def _new_id(name: str, device: torch.device, how: Record) -> str:
    """What was measured, where and when, then what tells it from any other bench of that second."""
    text = json.dumps([name, how, time.time_ns(), os.getpid()], sort_keys=True)
    digits = hashlib.sha256(text.encode()).hexdigest()[:10]
    return one_name(name, device.type, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), digits)


def write_record(record: Record, runs_dir: str) -> Path:
    """The file that holds the record from now on, whole."""
    file = bench_folder(runs_dir) / f"{record['bench_id']}.json"
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return file


def bench_folder(runs_dir: str) -> Path:
    """Where the benches of a folder of runs lie."""
    return Path(runs_dir) / "bench"
