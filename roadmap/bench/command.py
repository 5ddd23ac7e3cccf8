"""``roadmap bench``: counted and measured costs of steps and baseline models, with the paper's numbers."""

import gc
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roadmap.bench.models import Bench, compose_bench
from roadmap.bench.reading import bench_table, machine_words
from roadmap.bench.record import Record, counted, measured, write_record
from roadmap.cli.arguments import check_writable, checked_overrides, override_parser, say_choices
from roadmap.errors import WorkError
from roadmap.formatting import aligned, csv, four_digits, printable
from roadmap.paper.published import matches

logger = logging.getLogger(__name__)

MODES = {"inference": "inference images/s", "training": "training images/s", "latency": "latency (ms)"}
GPUS = {"v100": "V100 images/s", "a100": "A100 images/s"}


def main(arguments: list[str]) -> int:
    parser = override_parser(
        "bench", "GFLOPs (MACs), parameters, images/s, latency and memory of steps and baseline models"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the record as JSON")
    output.add_argument("--csv", action="store_true", help="print one CSV line per network")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    bench = compose_bench(overrides, options.config_dir)
    say_choices(entry.composed for entry in bench.entries)
    counts_only = bench.entries[0].composed.settings.device == "meta"
    record = counted(bench) if counts_only else _run(bench, overrides)
    if options.json:
        print(json.dumps(record, indent=1, ensure_ascii=False))
    elif options.csv:
        sys.stdout.write(csv(bench_table([record])))
    else:
        print(printable(text(record)))
    failed = sum(any("error" in row[mode] for mode in _modes([row])) for row in record["rows"])
    if failed:
        raise WorkError(f"{failed} of {len(record['rows'])} networks could not be measured; see the notes")
    return 0


def _run(bench: Bench, overrides: list[str]) -> Record:
    """Measure all networks and write the record into ``runs_dir``."""
    from roadmap.runtime.device import choose_device

    settings = bench.entries[0].composed.settings
    device, folder = choose_device(settings.device), Path(settings.runs_dir) / "bench"
    for entry in bench.entries:
        entry.composed.experiment()  # fail on invalid settings before measuring
    check_writable(folder, "choose another runs_dir")
    # garbage collections between networks need not visit imported modules
    gc.freeze()
    record = measured(bench, overrides, device)
    logger.info(f"record: {write_record(record, folder)}")
    return record


def text(record: Record) -> str:
    """Return the whole record for a terminal."""
    lines = [_environment_line(record)] if "device" in record else []
    return "\n".join([*lines, aligned(*_cells(record)), *_notes(record)])


def _environment_line(record: Record) -> str:
    """Return the machine, versions and the settings that all rows share."""
    how, versions, rows = record["settings"], record["versions"], record["rows"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "torchvision", "timm") if name in versions)
    shared = [f"batch {how['batch_size']}"]
    if len(precisions := {row["precision"] for row in rows}) == 1:
        shared += [f"{precision}{' with TF32' * (precision == 'fp32' and how['tf32'])}" for precision in precisions]
    shared += [key for key in ("channels_last", "compile") if all(row[key] for row in rows)]
    return "; ".join([machine_words(record), named, ", ".join(shared)])


def _cells(record: Record) -> tuple[list[str], list[list[str]]]:
    """Return header and rows, without empty columns."""
    rows = record["rows"]
    # the nano regime's networks are a thousand times smaller
    digits = 2 if max(row["gmacs"] for row in rows) >= 0.1 else 5
    columns = [("row", [row["name"] for row in rows])]
    for key in ("image_size", "precision", "channels_last", "compile"):
        if len({row[key] for row in rows}) > 1:
            columns.append((key, [str(row[key]) for row in rows]))
    columns += [
        ("GFLOPs (MACs)", [f"{row['gmacs']:.{digits}f}" for row in rows]),
        ("paper", [_printed(row, "gflops", row["gmacs"]) for row in rows]),
        ("params (M)", [f"{row['params_m']:.2f}" for row in rows]),
        ("paper", [_printed(row, "params_m", row["params_m"]) for row in rows]),
        ("activations (M)", [f"{row['activations_m']:.{2 if digits == 2 else 3}f}" for row in rows]),
    ]
    for mode in _modes(rows):
        columns += [(MODES[mode], [_measured(row[mode], mode) for row in rows])]
        columns += [
            ("×", [f"{row[mode]['relative']['median']:.2f}" if "relative" in row[mode] else "" for row in rows])
        ]
    for mode in _modes(rows):
        peaks = [row[mode].get("peak_memory_gb") for row in rows if mode != "latency"]
        columns.append((f"{mode} GiB", ["" if peak is None else f"{peak:.3g}" for peak in peaks]))
    for gpu, header in GPUS.items():
        columns.append((f"paper {header}", [row["published"].get(gpu, "") for row in rows]))
        columns.append(("×", _published_times(record, gpu)))
    columns.append(("paper top-1", [row["published"].get("top1", "") for row in rows]))
    kept = [(header, cells) for header, cells in columns if any(cells)]
    return [header for header, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)]


def _modes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [mode for mode in MODES if mode in rows[0]]


def _printed(row: Record, key: str, value: float) -> str:
    """Return the paper's cell, with ``*`` if the network's value differs; otherwise a space, for alignment."""
    cell = row["published"].get(key)
    return "" if cell is None else cell + (" " if agrees(value, cell) else "*")


def agrees(value: float, cell: str) -> bool:
    """Whether a value rounds to the published cell, or to each of several."""
    return all(matches(value, one) for one in cell.split(", "))


def _measured(outcome: Record, mode: str) -> str:
    """Return the median, with the quartiles in brackets."""
    if "error" in outcome:
        return "-"
    found = outcome["milliseconds" if mode == "latency" else "images_per_second"]
    median, low, high = (four_digits(found[key]) for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def _published_times(record: Record, gpu: str) -> list[str]:
    """Return each row's published images per second relative to the reference's."""
    # of several published cells, which are equal, the first
    rates = {row["name"]: row["published"].get(gpu, "").partition(", ")[0] for row in record["rows"]}
    reference = rates[record["reference"]]
    return [f"{float(rate) / float(reference):.2f}" if rate and reference else "" for rate in rates.values()]


def _notes(record: Record) -> list[str]:
    """Return notes that explain the table, and deviations from the request."""
    rows, lines = record["rows"], []
    modes = _modes(rows)
    if modes:
        lines.append(
            f"median (quartiles) of {record['settings']['repeats']} interleaved rounds; ×: speed relative to "
            f"{record['reference']}, the median of the rounds' ratios"
        )
    for row in rows:
        for mode in modes:
            outcome, batch = row[mode], 1 if mode == "latency" else record["settings"]["batch_size"]
            if "error" in outcome:
                lines.append(f"{row['name']}, {mode}: {outcome['error']}")
            elif outcome["batch"] < batch:
                lines.append(f"{row['name']}, {mode}: batch {outcome['batch']} instead of {batch}, to fit into memory")
        printed = [_printed(row, "gflops", row["gmacs"]), _printed(row, "params_m", row["params_m"])]
        lines += [f"* {row['name']}: {row['why']}"] if row["why"] and any("*" in cell for cell in printed) else []
    return lines
