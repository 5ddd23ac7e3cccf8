"""``roadmap doctor``: what this machine can do; ``--gpu``: the proof that a GPU computes what a CPU does."""

import argparse
import dataclasses
import json
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.commands.arguments import check_writable, checked_overrides, override_parser
from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError, WorkError

if TYPE_CHECKING:
    import torch


def main(arguments: list[str]) -> int:
    parser = override_parser("doctor", "what this machine can do, and the proof of the GPU path")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of the table")
    parser.add_argument("--gpu", action="store_true", help="compare the GPU with the CPU, and measure it: ten minutes")
    parser.add_argument("--output", metavar="FILE", help="of --gpu: where its JSON goes; else into runs_dir")
    options = parser.parse_intermixed_args(arguments)
    if options.output and not options.gpu:
        raise RequestError("--output is where --gpu writes its results; add --gpu or leave it out")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RequestError("roadmap doctor runs in one process; start it without torchrun")
    composed = compose(checked_overrides(options.overrides), options.config_dir)
    return prove(composed, options) if options.gpu else survey(composed, options)


def survey(composed: Composed, options: argparse.Namespace) -> int:
    """Print the findings. Raises WorkError where something that the config needs is missing."""
    settings = composed.experiment().settings
    from roadmap.doctor.findings import render
    from roadmap.doctor.machine import machine
    from roadmap.doctor.surroundings import surroundings

    findings = [*machine(settings.device, compiles=settings.compile), *surroundings(composed)]
    print(_json([dataclasses.asdict(finding) for finding in findings]) if options.json else render(findings))
    missing = [finding.name for finding in findings if finding.ok is False]
    if missing:
        raise WorkError(f"this machine lacks what was asked for: {', '.join(missing)}")
    return 0


def prove(composed: Composed, options: argparse.Namespace) -> int:
    """Go through all checks, print the table and write the JSON. Raises WorkError where a check failed."""
    settings = composed.experiment().settings
    import torch

    from roadmap.doctor import proof, runs, speed
    from roadmap.doctor.checks import CPU, GPU, Subject, go_through, render

    device = _provable(settings.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    file = Path(options.output or Path(settings.runs_dir) / f"doctor-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json")
    check_writable(file.parent, "choose another runs_dir or --output FILE")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="roadmap-doctor-") as folder:
        subject = Subject(device, GPU if device.type == "cuda" else CPU, Path(folder))
        rows = go_through([*proof.CHECKS, *runs.CHECKS, *speed.checks(subject)], subject)
    results = [dataclasses.asdict(row) for row in rows]
    _write(file, name, results, time.perf_counter() - began)
    print(_json(results) if options.json else render(rows))
    print(f"{time.perf_counter() - began:.0f} s; all numbers in {file}", file=sys.stderr)
    failed = [row.check for row in rows if row.outcome == "fail"]
    if failed:
        raise WorkError(f"{len(failed)} of {len(rows)} checks failed: {', '.join(failed)}")
    return 0


def _provable(name: str) -> "torch.device":
    """The device that the setting ``device`` names; RequestError where the proof cannot run on it."""
    from roadmap.runtime.device import choose_device

    device = choose_device(name)
    if name == "auto" and device.type == "cpu":
        raise RequestError("no GPU on this machine; `roadmap doctor --gpu device=cpu` tries the same checks on the CPU")
    if device.type not in ("cuda", "cpu"):
        raise RequestError(f"device={name} has no proof yet; choose cuda or cpu")
    return device


def _write(file: Path, device: str, results: list[dict[str, Any]], seconds: float) -> None:
    from roadmap.folders.runfolder import now, write_whole
    from roadmap.versions import package_versions

    head = {"device": device, "ended": now(), "seconds": seconds, "versions": package_versions()}
    write_whole(file, _json(head | {"checks": results}) + "\n")


def _json(value: Any) -> str:
    return json.dumps(_finite(value), indent=1, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """The value with infinities and what is no number as words, which JSON does not know otherwise."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
