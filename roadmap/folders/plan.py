"""A sweep's plan on disk: which runs it is made of, decided before any starts. Knows neither Hydra nor torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadmap.errors import RequestError
from roadmap.folders.runfolder import one_name, write_whole
from roadmap.foreign import check_fields, parse_json

FOLDER, HEADER, RUNS = "sweeps", "sweep.json", "plan.jsonl"


@dataclass(frozen=True)
class Sweep:
    """``header`` says what was asked for, ``runs`` has a row a run; the fields of both are in docs/sweeps.md."""

    path: Path
    header: dict[str, Any]
    runs: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The study, what it is on, and what tells it apart: ``orders-nano-digits-1a2b3c``."""
        return self.path.name

    @property
    def runs_dir(self) -> Path:
        """Where its runs are."""
        return self.path.parent.parent


def sweep_name(study: str, regime: str, data: str, run_ids: Sequence[str]) -> str:
    """Equal for equal lists of runs of one study, and for no others."""
    digest = hashlib.sha256("\n".join(run_ids).encode()).hexdigest()[:6]
    return one_name(study, regime, data, digest)


def write_sweep(runs_dir: str | Path, header: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Sweep:
    """Leave a plan under ``runs_dir``; one that is there already stays, since its name says that it is the same.

    Raises RequestError where it cannot be written.
    """
    path = folder_of(runs_dir, header["name"])
    sweep = Sweep(path, dict(header), [dict(run) for run in runs])
    if (path / HEADER).exists():
        return read_sweep(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot write to {path}: {error.strerror}; choose another runs_dir") from error
    write_whole(path / RUNS, "".join(json.dumps(run) + "\n" for run in sweep.runs))
    # last, since it says that the plan is whole
    write_whole(path / HEADER, json.dumps(sweep.header, indent=1) + "\n")
    return sweep


def folder_of(runs_dir: str | Path, name: str) -> Path:
    """Where a sweep's plan is."""
    return Path(runs_dir) / FOLDER / name


def read_sweep(path: Path) -> Sweep:
    """The plan in a sweep's folder. Raises RequestError, naming the file, where it is not whole."""
    file = path / HEADER
    try:
        header = parse_json(file.read_text(encoding="utf-8"))
        file = path / RUNS
        runs = [parse_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise RequestError(f"{file} is no plan of a sweep: {error}") from error
    try:
        _check_header(header, len(runs))
        for run in runs:
            _check_run(run)
    except ValueError as error:
        raise RequestError(
            f"{path} is no whole plan of a sweep: {error}; "
            "the command that made it writes it anew once it is moved away"
        ) from error
    return Sweep(path, header, runs)


def sweep_folders(runs_dir: str | Path) -> Iterator[Path]:
    """The folders of the sweeps under ``runs_dir``, by name."""
    yield from (file.parent for file in sorted((Path(runs_dir) / FOLDER).glob(f"*/{HEADER}")))


def read_sweeps(runs_dir: str | Path) -> list[Sweep]:
    """The plans of all sweeps under ``runs_dir``."""
    return [read_sweep(folder) for folder in sweep_folders(runs_dir)]


def _check_header(header: Any, runs: int) -> None:
    """Raises ValueError, in words, for what a sweep's header cannot be."""
    _check_is_there(header, ("runs", "changes", "orders"))
    check_fields(header, "a word", ("name", "regime", "data", "planned"), needed=True)
    check_fields(header, "an object", ("study",), needed=True)
    check_fields(header, "a list of numbers", ("seeds",), needed=True)
    check_fields(header, "a list of words", ("changes",))
    check_fields(header, "a list of lists of words", ("orders",))
    study = header["study"]
    check_fields(study, "a word", ("name",), needed=True)
    if study["name"] == "orders":
        check_fields(header, "a list of words", ("changes",), needed=True)
        check_fields(study, "true or false", ("others",), needed=True)
    if header["runs"] != runs:
        raise ValueError(f"{HEADER} counts {header['runs']!r} runs and {RUNS} has {runs}")


def _check_run(run: Any) -> None:
    """Raises ValueError, in words, for what a row of a plan cannot be."""
    _check_is_there(run, ("changes",))
    check_fields(run, "a word", ("run_id", "regime", "variant", "step"), needed=True)
    check_fields(run, "a whole number", ("seed", "epochs", "images"), needed=True)
    check_fields(run, "a number", ("gmacs", "params_m"), needed=True)
    check_fields(run, "a list of words", ("overrides",), needed=True)
    check_fields(run, "a list of words", ("changes",))


def _check_is_there(record: Any, fields: Sequence[str]) -> None:
    if not isinstance(record, dict):
        raise ValueError("it holds what is no object")
    missing = [field for field in fields if field not in record]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
