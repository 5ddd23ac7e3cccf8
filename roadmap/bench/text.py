"""A bench's record as text: environment, table and notes."""

from collections.abc import Mapping, Sequence
from typing import Any

from roadmap.bench.reading import machine_words
from roadmap.formatting import aligned, four_digits
from roadmap.paper.published_rows import matches

Record = Mapping[str, Any]
MODES = {"inference": "inference images/s", "training": "training images/s", "latency": "latency (ms)"}
GPUS = {"v100": "V100 images/s", "a100": "A100 images/s"}


def text(record: Record) -> str:
    """The whole record, for a terminal."""
    rows = record["rows"]
    lines = [_environment_line(record)] if "device" in record else []
    lines.append(aligned(*_cells(record, rows)))
    pairs = _ratio_table(rows)
    return "\n".join([*lines, *_notes(record), *([aligned(*pairs)] if pairs else [])])


def _environment_line(record: Record) -> str:
    """The machine, versions and the settings that all rows share."""
    how, versions = record["settings"], record["versions"]
    parts = [machine_words(record) + (f", driver {record['driver']}" if record.get("driver") else "")]
    parts.append(", ".join(f"{name} {versions[name]}" for name in ("torch", "torchvision", "timm") if name in versions))
    shared = [f"batch {how['batch_size']}"]
    for key, name in (("precision", None), ("channels_last", "channels_last"), ("compile", "compiled")):
        values = {row[key] for row in record["rows"]}
        if len(values) == 1:
            value = values.pop()
            shared += [name or _precision(value, how)] if value else []
    return "; ".join([*parts, ", ".join(shared)])


def _precision(precision: str, how: Mapping[str, Any]) -> str:
    return "fp32 with TF32" if precision == "fp32" and how["tf32"] else precision


def _cells(record: Record, rows: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, without empty columns."""
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
    for mode, header in MODES.items():
        if mode in rows[0]:
            columns += [(header, [_measured(row[mode], mode) for row in rows])]
            columns += [("×", [_times(row[mode].get("relative")) for row in rows])]
    columns += [
        (f"{mode} GiB", [_memory(row[mode]) for row in rows]) for mode in ("inference", "training") if mode in rows[0]
    ]
    for gpu, header in GPUS.items():
        columns += [(f"paper {header}", [row["published"].get(gpu, "") for row in rows])]
        columns += [("×", _published_times(record, gpu))]
    columns.append(("paper top-1", [row["published"].get("top1", "") for row in rows]))
    kept = [(header, cells) for header, cells in columns if any(cells)]
    return [header for header, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)]


def _printed(row: Record, key: str, value: float) -> str:
    """The paper's cell, with ``*`` if the network's value differs; otherwise a space, for alignment."""
    cell = row["published"].get(key)
    return "" if cell is None else cell + (" " if agrees(value, cell) else "*")


def agrees(value: float, cell: str) -> bool:
    """Whether a value rounds to the published cell, or to each of several."""
    return all(matches(value, one) for one in cell.split(", "))


def _measured(outcome: Record, mode: str) -> str:
    """The median, with the quartiles in brackets."""
    if "error" in outcome:
        return "-"
    found = outcome["milliseconds" if mode == "latency" else "images_per_second"]
    median, low, high = (four_digits(found[key]) for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def _times(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['median']:.2f}"


def _memory(outcome: Record) -> str:
    peak = outcome.get("peak_memory_gb")
    return "" if peak is None else f"{peak:.3g}"


def _published_times(record: Record, gpu: str) -> list[str]:
    """Each row's published images per second relative to the reference's."""
    rates = {row["name"]: row["published"].get(gpu) for row in record["rows"]}
    reference = rates[record["reference"]]
    return [f"{_first(rate) / _first(reference):.2f}" if rate and reference else "" for rate in rates.values()]


def _first(cell: str) -> float:
    """The first of several published cells; those of a GPU's speed are equal."""
    return float(cell.partition(", ")[0])


def _notes(record: Record) -> list[str]:
    """Notes that explain the table, and deviations from the request."""
    rows, lines = record["rows"], []
    if printed := [row["published"] for row in rows if row["published"]]:
        count = sum(int(cells["rows"]) for cells in printed)
        tables = sorted({int(table) for cells in printed for table in cells["tables"].split(", ")})
        named = f"Table{'s' * (len(tables) > 1)} {', '.join(map(str, tables))}"
        lines.append(f"{count} rows of the paper's {named}: {len(rows)} networks")
    modes = [mode for mode in MODES if mode in rows[0]]
    if modes:
        rounds = record["settings"]["repeats"]
        lines.append(
            f"median (quartiles) of {rounds} interleaved rounds; ×: speed relative to {record['reference']}, "
            "the median of the rounds' ratios"
        )
        known = [row[mode] for row in rows for mode in modes if "error" not in row[mode]]
        if known and all(outcome["peak_memory_gb"] is None for outcome in known):
            compiler = ", which would include the compiler's" if rows[0]["compile"] else ""
            lines.append(f"peak memory: not measured on {record['device']}{compiler}")
    for row in rows:
        for mode in modes:
            lines += _problems(row, mode, 1 if mode == "latency" else record["settings"]["batch_size"])
        lines += [f"* {row['name']}: {row['why']}"] if row["why"] and _differs(row) else []
    return lines


def _problems(row: Record, mode: str, batch: int) -> list[str]:
    outcome = row[mode]
    if "error" in outcome:
        return [f"{row['name']}, {mode}: {outcome['error']}"]
    if outcome["batch"] < batch:
        return [f"{row['name']}, {mode}: batch {outcome['batch']} instead of {batch}, to fit into memory"]
    return []


def _differs(row: Record) -> bool:
    cells, counts = row["published"], {"gflops": row["gmacs"], "params_m": row["params_m"]}
    return any(not agrees(value, cells[key]) for key, value in counts.items() if key in cells)


def _ratio_table(rows: Sequence[Record]) -> tuple[list[str], list[list[str]]] | None:
    """Speed ratios of the pairs that ``against`` defines."""
    paired = [row for row in rows if row["against"]]
    modes = [mode for mode in MODES if mode in rows[0]]
    if not paired or not modes:
        return None
    header = ["speed ratio: median (quartiles)", *modes]
    return header, [[f"{row['against']} / {row['name']}", *(_ratio(row[mode]) for mode in modes)] for row in paired]


def _ratio(outcome: Record) -> str:
    found = outcome.get("against")
    return "-" if found is None else "{median:.3f} ({low:.3f}–{high:.3f})".format(**found)
