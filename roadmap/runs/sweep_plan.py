"""The plan of a sweep on disk: its runs, decided before any of them starts. Needs neither Hydra nor torch."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadmap.errors import RequestError
from roadmap.runs.exported import SUFFIX, opened
from roadmap.runs.records import exported_part, read_file, read_json
from roadmap.runs.run_folder import one_name, write_whole
from roadmap.untrusted_io import parse_json
from roadmap.validation import FileRecord, Int64, converted

FOLDER, HEADER, RUNS = "sweeps", "sweep.json", "plan.jsonl"
UNTIL = "until"  # name of the study whose further seeds are chosen by results


class SweepHeader(FileRecord):
    """``sweep.json``; its fields are in docs/sweeps.md."""

    name: str
    study: dict[str, Any]
    regime: str
    data: str
    seeds: tuple[Int64, ...]
    planned: str
    runs: Int64
    changes: tuple[str, ...] | None
    orders: tuple[tuple[str, ...], ...] | None
    schema: Int64 = 1


class PlannedRun(FileRecord):
    """A line of ``plan.jsonl``."""

    run_id: str
    regime: str
    variant: str
    step: str
    seed: Int64
    epochs: Int64
    images: Int64
    gmacs: float
    params_m: float
    overrides: tuple[str, ...]
    changes: tuple[str, ...] | None


@dataclass(frozen=True)
class Sweep:
    """A sweep's ``header`` (a SweepHeader as a dict) and ``runs`` (PlannedRuns as dicts)."""

    path: Path
    header: dict[str, Any]
    runs: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Study, regime, data and a hash, such as ``orders-nano-digits-1a2b3c``."""
        return self.path.name

    @property
    def runs_dir(self) -> Path:
        return self.path.parent.parent


def sweep_name(study: str, regime: str, data: str, run_ids: Sequence[str]) -> str:
    """Return a sweep's name, which is unique for its study and list of runs."""
    digest = hashlib.sha256("\n".join(run_ids).encode()).hexdigest()[:6]
    return one_name(study, regime, data, digest)


def write_sweep(runs_dir: str | Path, header: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Sweep:
    """Write a plan under ``runs_dir``, unless it exists; a plan of the same name is the same plan.

    Raises RequestError if it cannot be written.
    """
    path = folder_of(runs_dir, header["name"])
    if (path / HEADER).exists():
        return read_sweep(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot write to {path}: {error.strerror}; choose another runs_dir") from error
    write_whole(path / RUNS, "".join(json.dumps(run) + "\n" for run in runs))
    # the header is written last, so that a plan with a header is complete
    write_whole(path / HEADER, json.dumps(header, indent=1) + "\n")
    return Sweep(path, dict(header), [dict(run) for run in runs])


def folder_of(runs_dir: str | Path, name: str) -> Path:
    return Path(runs_dir) / FOLDER / name


def read_sweep(path: Path) -> Sweep:
    """Return the plan in a sweep's folder. Raises RequestError if it is not complete."""
    try:
        header = read_json(path / HEADER)
        runs = read_file(path / RUNS, lambda text: [parse_json(line) for line in text.splitlines()])
        counted = converted(header, SweepHeader).runs
        converted(runs, list[PlannedRun], RUNS)
        if counted != len(runs):
            raise ValueError(f"{HEADER} counts {counted} runs and {RUNS} has {len(runs)}")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{path} is not a complete plan of a sweep: {error}; move it away and run the sweep's command again"
        ) from error
    return Sweep(path, header, runs)


def sweep_folders(runs_dir: str | Path) -> list[Path]:
    """Return the folders of the sweeps under ``runs_dir``, which may be an exported file, sorted by name."""
    if part := exported_part(runs_dir):
        return [Path(part[0], FOLDER, name) for name in opened(part[0]).sweeps if not part[1]]
    return [file.parent for file in sorted(Path(runs_dir, FOLDER).glob(f"*/{HEADER}"))]


def read_sweeps(runs_dir: str | Path) -> list[Sweep]:
    """Return the plans of all sweeps under ``runs_dir``, including those in exported files there."""
    places = [Path(runs_dir), *sorted(Path(runs_dir).glob(f"*{SUFFIX}"))]
    return [read_sweep(folder) for place in places for folder in sweep_folders(place)]


def plans_of(paths: Iterable[str]) -> tuple[list[Sweep], list[str]]:
    """Return the plans beside runs, given by their ``path``, and a sentence on each one that cannot be read."""
    plans, skipped = [], []
    for place in dict.fromkeys(os.path.dirname(path) for path in paths if "://" not in path):
        for folder in sweep_folders(place):
            try:
                plans.append(read_sweep(folder))
            except RequestError as error:
                skipped.append(str(error))
    return plans, skipped
