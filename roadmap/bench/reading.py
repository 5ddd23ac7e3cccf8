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

Places = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Record = dict[str, Any]
MODES = ("inference", "training", "latency")
# fields of an outcome that the table has once per mode
MEASURED = ("images_per_second", "milliseconds", "relative")
# environment and settings of a measurement
MACHINE = ("device", "processor", "threads")
HOW = ("precision", "channels_last", "compile")
IDENTITY = ("name", "variant", "regime", "design", "layer_scale", "num_classes", "image_size")
COUNTS = ("gmacs", "params_m", "activations_m")


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
        if self.batch is UNSET and any(getattr(self, name) is not UNSET for name in MEASURED):
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


def load_bench(places: Places) -> pd.DataFrame:
    """One row per network of each bench in ``places``: files, or folders searched for ``bench/*.json``.

    Columns are the design, counts, environment and settings, and per mode, for example, ``inference_images_per_second``
    (the median over rounds, with quartiles in ``_low`` and ``_high``), ``latency_milliseconds``, ``training_relative``
    (speed relative to the bench's reference), ``training_batch`` and ``training_peak_memory_gb``. Raises RequestError
    for a place without a bench and an invalid file.
    """
    found = [places] if isinstance(places, str | os.PathLike) else places
    return bench_table([_read(file) for place in found for file in _files(Path(place))])


def bench_table(records: list[Record]) -> pd.DataFrame:
    """The table of ``load_bench`` from records; without measurements, it has no columns of them."""
    return pd.DataFrame([_flat(record, row) for record in records for row in record["rows"]])


def _flat(record: Record, row: Record) -> dict[str, Any]:
    head = {key: record[key] for key in ("bench_id", "ended", *MACHINE, "driver") if key in record}
    head |= {key: row.get(key) for key in (*IDENTITY, *COUNTS, *HOW)}
    head |= {f"paper_{key}": cell for key, cell in row["published"].items()}
    for mode in MODES:
        outcome = row.get(mode, {})
        for key in MEASURED:
            if key in outcome:
                head[f"{mode}_{key}"] = outcome[key]["median"]
                head |= {f"{mode}_{key}_{end}": outcome[key][end] for end in ("low", "high")}
        head |= {f"{mode}_{key}": outcome[key] for key in ("batch", "peak_memory_gb", "error") if key in outcome}
    return head


def _files(place: Path) -> list[Path]:
    """The bench files at a place."""
    if is_place(place) and not is_file(place):
        skipped: list[str] = []
        files = files_below(place, "*.json", skipped)
        files = [file for file in files if file.parent.name == "bench" or file.parent == place]
        files = [file for file in files if file.name != "summary.json" and not file.name.startswith(".")]
        if not files:
            nothing = f"no bench in {place}; `roadmap bench` writes its records into runs_dir/bench"
            raise RequestError(skipped[0] if skipped else nothing)
        return files
    if not is_file(place):
        raise RequestError(f"no bench {place}; name a file or a folder of `roadmap bench`")
    return [place]


def _read(file: Path) -> Record:
    try:
        record = read_json(file)
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {file} as a bench: {error}") from error
    if not isinstance(record, dict) or "bench_id" not in record or not isinstance(record.get("rows"), list):
        raise RequestError(f"{file} is not a record of `roadmap bench`: bench_id or rows is missing")
    try:
        converted(record, BenchRecord)
    except ValueError as error:
        raise RequestError(f"{file} is a damaged record of `roadmap bench`: {error}") from error
    return record


def speeds(benches: pd.DataFrame, column: str) -> tuple[dict[str, float], str]:
    """The latest measurement of ``column`` by network, and a description of its environment.

    Raises RequestError without measurements, and if they are from several machines or settings.
    """
    mode = column.partition("_")[0]
    known = benches[benches[column].notna()] if column in benches else benches.iloc[:0]
    if not len(known):
        raise RequestError(f"no {mode} in these benches; measure it: bench.measure=[{mode}]")
    for words, what in ((machine_words, "on {} machines"), (_how, "in {} ways")):
        kinds = list(dict.fromkeys(words(row) for row in known.to_dict("records")))
        if len(kinds) > 1:
            raise RequestError(
                f"these speeds were measured {what.format(len(kinds))}, {' and '.join(kinds)}, and cannot be compared; "
                "select benches of one of them with --bench"
            )
    known = known.sort_values("ended", kind="stable")
    found = {_key(row): row[column] for row in known.to_dict("records")}
    last = known.iloc[-1].to_dict()
    batches = sorted(set(known[f"{mode}_batch"].astype(int)))
    batch = f"batch {batches[0]}" + (f" to {batches[-1]}" if len(batches) > 1 else "")
    return found, f"{mode} measured on {machine_words(last)}, {last['precision']}, {batch}"


def machine_words(machine: Mapping[Any, Any]) -> str:
    """The name of the GPU, or of the CPU with its number of threads."""
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
    table = table.copy()
    table[name] = pd.Series([found.get(_run_key(run)) for run in table.to_dict("records")], table.index, dtype=float)
    if table[name].isna().all():
        sizes = ", ".join(f"{int(size)}" for size in sorted(set(table["image_size"])))
        raise RequestError(
            f"no bench matches these runs: none of its {len(found)} networks has their design at image size {sizes}; "
            "run `roadmap bench` with the overrides of the runs"
        )
    return table, words


def _key(row: Mapping[Any, Any]) -> str:
    return json.dumps([row["design"], int(row["image_size"]), bool(row["layer_scale"])], sort_keys=True)


def _run_key(run: Mapping[Any, Any]) -> str:
    """The key of a run; empty, which matches no bench, if its record lacks the recipe or image size."""
    recipe = run["definition"].get("recipe")
    if not isinstance(recipe, dict) or pd.isna(run["image_size"]):
        return ""
    scale = recipe["network"]["layer_scale"] is not None
    return _key({"design": run["design"], "image_size": run["image_size"], "layer_scale": scale})
