"""Evaluations as a terminal shows them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from roadmap.analysis.evaluations import evaluation_rows
from roadmap.textual import aligned

Record = dict[str, Any]
LOWEST = 3  # classes that are named
SEEN = ("data", "image_size", "crop_ratio", "interpolation", "precision")


def text(records: Sequence[Record]) -> str:
    """What was evaluated, a row a network, and what is to be known of it."""
    shared = [name for name in SEEN if len({record[name] for record in records}) == 1]
    lines = [", ".join(f"{name} {records[0][name]}" for name in shared)] if shared else []
    table = pd.DataFrame([row for record in records for row in evaluation_rows(record)])
    whole = table[table["part"] == ""]
    if len(whole):
        lines.append(aligned(*_whole_cells(whole, [name for name in SEEN if name not in shared])))
    if len(records) == 1 and len(whole):
        lines += _classes(records[0])
    if table["corruption"].notna().any():
        lines += ["", *corrupted(table)]
    lines += [
        f"caution: {record['label']}: this checkpoint was chosen as the best on these very images, so its accuracy is "
        "better than it would be on others"
        for record in records
        if record["chosen_on_these_images"]
    ]
    return "\n".join(lines)


def _whole_cells(rows: pd.DataFrame, differing: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    columns = {"network": list(rows["label"])}
    for name in differing:
        columns[name] = [str(value) for value in rows[name]]
    columns["weights"] = [
        _weights(*row) for row in zip(rows["checkpoint"], rows["epoch"], rows["weights"], strict=True)
    ]
    columns["images"] = [str(images) for images in rows["images"]]
    columns["top-1 (%)"] = [number(value) for value in rows["top1"]]
    columns["top-5 (%)"] = [number(value) for value in rows["top5"]]
    columns["loss"] = [number(value, ".4f") for value in rows["loss"]]
    columns["ECE (%)"] = [number(value) for value in rows["ece"]]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _weights(file: str, epoch: float, weights: str) -> str:
    averaged = ", averaged" if weights == "averaged" else ""
    return f"{file}{'' if pd.isna(epoch) else f', epoch {int(epoch)}'}{averaged}"


def _classes(record: Record) -> list[str]:
    accuracies = [(top1, name) for name, top1 in enumerate(record["class_top1"]) if top1 is not None]
    lowest = ", ".join(f"class {name} {top1:.2f} %" for top1, name in sorted(accuracies)[:LOWEST])
    return [f"lowest of {len(accuracies)} classes: {lowest}"]


def corrupted(table: pd.DataFrame) -> list[str]:
    """The accuracies on corrupted images: of one network by severity, of several their means."""
    return []


def number(value: float | None, form: str = ".2f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None or pd.isna(value) else format(value, form)
