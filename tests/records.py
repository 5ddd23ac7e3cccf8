"""Run records for tests: those of the example runs, changed where a test needs it, and written as run folders."""

import atexit
import copy
import gzip
import hashlib
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from roadmap.runs.run_folder import read_metrics
from roadmap.runs.sweep_plan import write_sweep
from roadmap.steps.path import Step, compose_path

COMMITTED = Path(__file__).parent.parent / "runs"
EXPORTED = COMMITTED / "examples" / "nano-digits.runs.jsonl.gz"
ROBUSTNESS = COMMITTED / "studies" / "nano-digits-robustness.runs.jsonl.gz"


@cache
def steps_of(regime: str) -> list[Step]:
    """The steps of the paper's path, composed once per process since it takes seconds."""
    return compose_path([f"regime={regime}"])


def unpacked(file: Path) -> Path:
    """The run folders of a committed file, as they were before it was exported; deleted when the process ends."""
    root = tempfile.TemporaryDirectory(prefix="roadmap-tests-")
    atexit.register(root.cleanup)
    folder = Path(root.name, file.name.partition(".")[0])
    for line in gzip.decompress(file.read_bytes()).splitlines():
        record = json.loads(line)
        if "summary" in record:
            files = {"summary.json": json.dumps(record["summary"], indent=1)}
            found = record.get("evaluations", {})
            files |= {f"evaluations/{key}.json": json.dumps(evaluated) for key, evaluated in found.items()}
        elif "overrides" in record:
            files = {f".hydra/{name}.yaml": record[name] for name in ("config", "overrides")}
        elif "columns" in record:
            rows = zip(*record["columns"].values(), strict=True)
            lines = [json.dumps(dict(zip(record["columns"], row, strict=True))) for row in rows]
            files = {"metrics.jsonl": "".join(f"{line}\n" for line in lines)}
        else:
            continue
        for name, text in files.items():
            path = folder / record["run"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


EXAMPLES = unpacked(EXPORTED)


def with_todays_recipes(runs: list[Path], folder: Path) -> Path:
    """Copy run folders into ``folder``, as if trained with the recipes of today, which have more settings."""
    for run in runs:
        copied = shutil.copytree(run, folder / run.name)
        summary = json.loads((copied / "summary.json").read_text())
        step = next(step for step in steps_of(summary["regime"]) if step.name == summary["step"])
        summary["definition"]["recipe"] = step.composed.experiment().definition["recipe"]
        (copied / "summary.json").write_text(json.dumps(summary))
    return folder


def timeless_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl without times and what they depend on, so that equal runs have equal lines."""
    times = ("images_per_second", "data_wait", "train_seconds", "seconds", "packed")
    return [{key: value for key, value in row.items() if key not in times} for row in read_metrics(file)]


@cache
def summary_of(variant: str) -> dict[str, Any]:
    """The record of one of the committed runs."""
    return dict(json.loads((example(variant) / "summary.json").read_text()))


def record(variant: str, seed: int, top1: float, **definition: Any) -> dict[str, Any]:
    """A finished run's record of made-up accuracy; ``definition`` changes its conditions, as ``epochs=5``."""
    made: dict[str, Any] = copy.deepcopy(summary_of(variant))
    made |= {"seed": seed, "top1": top1, "best_top1": top1 + 1}
    made["definition"] |= {"seed": seed} | definition
    made |= {key: value for key, value in definition.items() if key in made and key not in ("data", "recipe")}
    made["run_id"] = hashlib.sha256(json.dumps(made["definition"], sort_keys=True).encode()).hexdigest()[:10]
    return made


def write(folder: Path, *records: dict[str, Any]) -> Path:
    """Each record in a run folder of its own under ``folder``."""
    for made in records:
        path = folder / f"{made['variant']}-s{made['seed']}-{made['run_id']}"
        path.mkdir(parents=True)
        (path / "summary.json").write_text(json.dumps(made))
    return folder


def example(step: str, seed: int = 0) -> Path:
    """The folder of one of the committed runs."""
    (folder,) = EXAMPLES.glob(f"nano-digits-{step}-s{seed}-*")
    return folder


def evaluation(step: str, seed: int = 0) -> Path:
    """The record of one of the committed evaluations on corrupted images."""
    (file,) = _robustness().glob(f"nano-digits-{step}-s{seed}-*/evaluations/*.json")
    return file


@cache
def _robustness() -> Path:
    return unpacked(ROBUSTNESS)


def bench(step: str) -> dict[str, Any]:
    """A record of ``roadmap bench`` of one of the committed runs' networks, with made-up speeds."""
    run, spread = summary_of(step), {"median": 2.0, "low": 1.5, "high": 2.5}
    row = {key: run[key] for key in ("variant", "regime", "design", "image_size", "gmacs", "params_m")}
    row |= {"name": step, "layer_scale": True, "num_classes": 10, "activations_m": 0.1, "published": {"top1": 80.0}}
    row |= {"precision": "fp32", "channels_last": True, "compile": False}
    row |= {"inference": {"batch": 32, "peak_memory_gb": 0.1, "images_per_second": spread, "relative": spread}}
    machine = {"device": "cpu", "processor": "a CPU", "threads": 2}
    return {"bench_id": f"{step}-cpu-1", "ended": "2026-11-25T00:00:00+00:00", **machine, "rows": [row]}


def make_run(
    folder: Path, step: str = "gelu", seed: int = 0, lr: float | None = None, **changes: Any
) -> dict[str, Any]:
    """A copy of an example run in ``folder`` with its summary changed, and its definition where the summary's is.

    Epochs beyond the example's repeat its last line.
    """
    summary = json.loads((example(step) / "summary.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (example(step) / "metrics.jsonl").read_text().splitlines()]
    summary |= {"seed": seed, "run_id": folder.name[-10:].rjust(10, "0")} | changes
    defined = summary["definition"]
    defined |= {key: summary[key] for key in ("design", "seed", "epochs", "batch_size", "image_size", "precision")}
    defined["data"] |= {"name": summary["data"]}
    if lr is not None:
        defined["recipe"]["optimizer"]["lr"] = lr
    epochs = summary["epochs"] if summary["status"] == "finished" else 3
    lines = [rows[min(epoch, len(rows) - 1)] | {"epoch": epoch + 1} for epoch in range(epochs)]
    (folder / ".hydra").mkdir(parents=True)
    shutil.copy(example(step) / ".hydra" / "overrides.yaml", folder / ".hydra")
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return summary


def make_sweep(runs_dir: Path, name: str, planned: list[dict[str, Any]], **header: Any) -> Path:
    """The plan of a sweep under ``runs_dir`` of runs whose records, made or still to be made, are given."""
    fields = ("run_id", "regime", "variant", "seed", "step", "epochs", "gmacs", "params_m")
    rows = [
        {field: summary[field] for field in fields}
        | {"overrides": [], "images": summary["epochs"] * summary["train_images"], "changes": None}
        for summary in planned
    ]
    head = {"name": name, "study": {"name": "made"}, "regime": "nano", "data": "digits", "path": "paper"}
    head |= {"overrides": [], "seeds": [0], "retries": 1, "planned": "2026-11-25T00:00:00+00:00"}
    return write_sweep(runs_dir, head | {"runs": len(rows), "changes": None, "orders": None} | header, rows).path
