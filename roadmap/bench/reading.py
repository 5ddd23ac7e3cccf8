"""Records of ``roadmap bench`` as tables, and measured speeds joined with logged runs."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec import UNSET, UnsetType

from roadmap.errors import RequestError
from roadmap.runs.records import files_below, is_file, is_place, read_json
from roadmap.validation import FileRecord, Int64, converted

MODES = ("inference", "training", "latency")
# fields of an outcome that the table has once per mode, the first three with quartiles
QUARTILES = ("images_per_second", "milliseconds", "relative")
PLAIN = ("batch", "peak_memory_gb", "error")
# fields of a record and of its rows that the table has
HEAD = ("bench_id", "ended", "device", "processor", "threads")
IDENTITY = ("name", "variant", "regime", "design", "layer_scale", "num_classes", "image_size")
COSTS_AND_SETTINGS = ("gmacs", "params_m", "activations_m", "precision", "channels_last", "compile")


class Quartiles(FileRecord):
    """A measurement over the rounds of a bench."""

    median: float
    low: float
    high: float


class Outcome(FileRecord):
    """A network's measurements in a mode, or its error."""

    images_per_second: Quartiles | UnsetType = UNSET
    milliseconds: Quartiles | UnsetType = UNSET
    relative: Quartiles | UnsetType = UNSET
    batch: Int64 | UnsetType = UNSET
    peak_memory_gb: float | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.batch is UNSET and any(getattr(self, name) is not UNSET for name in QUARTILES):
            raise ValueError("batch is missing")


class BenchRow(FileRecord):
    """A network of a bench: design, counts and measurements."""

    name: str
    variant: str
    design: dict[str, Any]
    layer_scale: bool
    num_classes: Int64
    image_size: Int64
    precision: str
    channels_last: bool
    compile: bool
    published: dict[str, Any]
    regime: str | None = None
    gmacs: float | None = None
    params_m: float | None = None
    activations_m: float | None = None
    inference: Outcome | UnsetType = UNSET
    training: Outcome | UnsetType = UNSET
    latency: Outcome | UnsetType = UNSET


class BenchRecord(FileRecord):
    """A file of ``roadmap bench``."""

    bench_id: str
    ended: str
    device: str
    processor: str
    threads: Int64
    rows: tuple[BenchRow, ...]
    schema: Int64 = 1


def load_bench(places: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return one row per network of each bench in ``places``: files, or folders searched for ``bench/*.json``.

    Columns are the design, counts, environment and settings, and per mode, for example, ``inference_images_per_second``
    (the median over rounds, with quartiles in ``_low`` and ``_high``), ``latency_milliseconds``, ``training_relative``
    (speed relative to the bench's reference), ``training_batch`` and ``training_peak_memory_gb``. Raises RequestError
    for a place without a bench and an invalid file.
    """
    found = [places] if isinstance(places, str | os.PathLike) else places
    return bench_table([_read(file) for place in found for file in _files(Path(place))])


def bench_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of ``load_bench`` from records; without measurements, it has no columns of them."""
    return pd.DataFrame([_flat(record, row) for record in records for row in record["rows"]])


def _flat(record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    cells = {key: record[key] for key in HEAD if key in record}
    cells |= {key: row.get(key) for key in (*IDENTITY, *COSTS_AND_SETTINGS)}
    cells |= {f"paper_{key}": cell for key, cell in row["published"].items()}
    for mode in MODES:
        outcome = row.get(mode, {})
        for key in QUARTILES:
            if key in outcome:
                cells[f"{mode}_{key}"] = outcome[key]["median"]
                cells |= {f"{mode}_{key}_{end}": outcome[key][end] for end in ("low", "high")}
        cells |= {f"{mode}_{key}": outcome[key] for key in PLAIN if key in outcome}
    return cells


def _files(place: Path) -> list[Path]:
    if is_file(place):
        return [place]
    skipped: list[str] = []
    files = files_below(place, "*.json", skipped) if is_place(place) else []
    files = [file for file in files if file.parent.name == "bench" or file.parent == place]
    files = [file for file in files if file.name != "summary.json" and not file.name.startswith(".")]
    if not files:
        raise RequestError(skipped[0] if skipped else f"no bench in {place}; name files or folders of `roadmap bench`")
    return files


def _read(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = read_json(file)
        converted(record, BenchRecord)
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} is not a record of `roadmap bench`: {error}") from error
    return record


def speeds(benches: pd.DataFrame, column: str) -> tuple[dict[str, float], str]:
    """Return the latest measurement of ``column`` by network, and a description of its environment.

    Raises RequestError without measurements, and if they are from several machines or settings.
    """
    mode = column.partition("_")[0]
    rows = benches[benches[column].notna()].to_dict("records") if column in benches else []
    if not rows:
        raise RequestError(f"no {mode} in these benches; measure it: bench.measure=[{mode}]")
    for describe, what in ((machine_words, "on {} machines"), (_how, "in {} ways")):
        kinds = list(dict.fromkeys(describe(row) for row in rows))
        if len(kinds) > 1:
            raise RequestError(
                f"these speeds were measured {what.format(len(kinds))}, {' and '.join(kinds)}, and cannot be compared; "
                "select benches of one of them with --bench"
            )
    rows.sort(key=lambda row: row["ended"])
    batches = sorted({int(row[f"{mode}_batch"]) for row in rows})
    batch = f"{batches[0]} to {batches[-1]}" if len(batches) > 1 else f"{batches[0]}"
    words = f"{mode} measured on {machine_words(rows[-1])}, {rows[-1]['precision']}, batch {batch}"
    return {_key(row): row[column] for row in rows}, words


def machine_words(machine: Mapping[Any, Any]) -> str:
    """Return the name of the GPU, or of the CPU with its number of threads."""
    if machine["device"] != "cpu":
        return str(machine["device"])
    return f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"


def _how(row: Mapping[Any, Any]) -> str:
    return f"{row['precision']}, channels_last={row['channels_last']}, compile={row['compile']}".lower()


def with_speeds(table: pd.DataFrame, benches: pd.DataFrame, column: str, name: str) -> tuple[pd.DataFrame, str]:
    """Add a measured speed to a table of runs or groups as the column ``name``; also return ``speeds``' description.

    A row has the speed of the same design at the same image size, with layer scale if the run had it; otherwise NaN.
    Raises RequestError as ``speeds`` does, and if no row has a speed.
    """
    found, words = speeds(benches, column)
    values = [found.get(_run_key(run), float("nan")) for run in table.to_dict("records")]
    if pd.isna(values).all():
        sizes = ", ".join(f"{int(size)}" for size in sorted(set(table["image_size"])))
        raise RequestError(
            f"no bench matches these runs: none of its {len(found)} networks has their design at image size {sizes}; "
            "run `roadmap bench` with the overrides of the runs"
        )
    return table.assign(**{name: values}), words


def _key(row: Mapping[Any, Any]) -> str:
    return json.dumps([row["design"], int(row["image_size"]), bool(row["layer_scale"])], sort_keys=True)


def _run_key(run: Mapping[Any, Any]) -> str:
    """Return the key of a run; empty, which matches no bench, if its record lacks the recipe or image size."""
    recipe = run["definition"].get("recipe")
    if not isinstance(recipe, dict) or pd.isna(run["image_size"]):
        return ""
    return _key({**run, "layer_scale": recipe["network"]["layer_scale"] is not None})
