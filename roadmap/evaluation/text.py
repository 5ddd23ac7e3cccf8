"""Tables of evaluation records for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from roadmap.evaluation.mce import by_severity, mce, missing
from roadmap.evaluation.reading import evaluation_rows
from roadmap.formatting import aligned
from roadmap.schema.corruptions import GROUPS, SYNTHETIC_FROST

Record = dict[str, Any]
Columns = dict[str, list[str]]
LOWEST = 3  # classes shown
CONDITIONS = ("data", "image_size", "crop_ratio", "interpolation", "precision")


def text(records: Sequence[Record]) -> str:
    """A table with one row per network, then corruptions, then notes."""
    shared = [name for name in CONDITIONS if len({record[name] for record in records}) == 1]
    lines = [", ".join(f"{name} {records[0][name]}" for name in shared)] if shared else []
    whole = pd.DataFrame([row for record in records for row in evaluation_rows(record) if not row["part"]])
    if len(whole):
        lines.append(_table(_whole_columns(whole, [name for name in CONDITIONS if name not in shared])))
    if len(records) == len(whole) == 1:
        lines.append(_lowest_classes(records[0]))
    corrupted = [record for record in records if any("/" in part["part"] for part in record["parts"])]
    if len(corrupted) == 1:
        lines += ["", *_by_severity(corrupted[0])]
    elif corrupted:
        lines += ["", *_by_group(corrupted)]
    lines += [
        f"caution: {record['label']}: this checkpoint was selected on these images, so its accuracy is optimistic"
        for record in records
        if record["chosen_on_these_images"]
    ]
    return "\n".join(lines)


def _table(columns: Columns) -> str:
    return aligned(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _whole_columns(rows: pd.DataFrame, differing: Sequence[str]) -> Columns:
    columns = {"network": list(rows["label"])}
    for name in differing:
        columns[name] = [str(value) for value in rows[name]]
    weights = zip(rows["checkpoint"], rows["epoch"], rows["weights"], strict=True)
    columns["weights"] = [_weights(*which) for which in weights]
    columns["images"] = [str(images) for images in rows["images"]]
    figures = {"top1": "top-1 (%)", "top5": "top-5 (%)", "loss": "loss", "ece": "ECE (%)"}
    for name, header in figures.items():
        columns[header] = [_number(value, ".4f" if name == "loss" else ".2f") for value in rows[name]]
    return columns


def _weights(file: str, epoch: float, weights: str) -> str:
    averaged = ", averaged" if weights == "averaged" else ""
    return f"{file}{'' if pd.isna(epoch) else f', epoch {int(epoch)}'}{averaged}"


def _lowest_classes(record: Record) -> str:
    accuracies = [(top1, name) for name, top1 in enumerate(record["class_top1"]) if top1 is not None]
    lowest = ", ".join(f"class {name} {top1:.2f} %" for top1, name in sorted(accuracies)[:LOWEST])
    return f"lowest accuracies of {len(accuracies)} classes: {lowest}"


def _errors(record: Record) -> dict[str, dict[int, float]]:
    return by_severity({part["part"]: part["top1"] for part in record["parts"] if "/" in part["part"]})


def _by_severity(record: Record) -> list[str]:
    """One network's accuracy on each corruption at each severity, with means."""
    errors = _errors(record)
    severities = sorted({severity for values in errors.values() for severity in values})
    columns = {"top-1 (%) at severity": list(errors)}
    for severity in severities:
        columns[str(severity)] = [_number(_accuracy(values.get(severity))) for values in errors.values()]
    columns["mean"] = [_number(_accuracy(_mean(values))) for values in errors.values()]
    return [_table(columns), *_mean_notes([record])]


def _by_group(records: Sequence[Record]) -> list[str]:
    """The accuracies of several networks on groups of corruptions, with means."""
    columns: Columns = {"network": [record["label"] for record in records]}
    errors = [{name: _mean(values) for name, values in _errors(record).items()} for record in records]
    columns["corrupted (%)"] = [_number(_accuracy(_mean(own))) for own in errors]
    for group, names in GROUPS.items():
        own_names = {*names, SYNTHETIC_FROST} if "frost" in names else {*names}
        inside = [{name: error for name, error in own.items() if name in own_names} for own in errors]
        if all(inside):
            columns[f"{group} (%)"] = [_number(_accuracy(_mean(own))) for own in inside]
    if all(map(_is_imagenet_c, records)):
        columns["mCE"] = [_number(mce(_errors(record))) for record in records]
    return [_table(columns), *_mean_notes(records)]


def _mean_notes(records: Sequence[Record]) -> list[str]:
    """What the means are over, with their values for a single network."""
    first = _errors(records[0])
    severities = sorted({severity for values in first.values() for severity in values})
    count = f"{len(first)} corruption{'s' * (len(first) > 1)}"
    over = f"over {count} at severities {', '.join(map(str, severities))}"
    lines = []
    if len(records) == 1:
        error = _mean({name: _mean(values) for name, values in first.items()})
        lines.append(f"mean corruption error {over}: {error:.2f} %, not normalised (no mCE)")
        if _is_imagenet_c(records[0]):
            lines.append(f"mCE, normalised by AlexNet's errors: {mce(first):.1f}")
    else:
        lines.append(f"corrupted: the mean {over}, not normalised")
    if SYNTHETIC_FROST in first:
        lines.append(f"{SYNTHETIC_FROST} is generated; the published frost requires photographs: frost=FOLDER")
    return lines


def _is_imagenet_c(record: Record) -> bool:
    """Whether mCE is defined: all corruptions of the published images, as for AlexNet."""
    return record["data"] == "imagenet_c" and not missing(_errors(record))


def _mean(values: Mapping[Any, float]) -> float:
    return sum(values.values()) / len(values)


def _accuracy(error: float | None) -> float | None:
    return None if error is None else 100 - error


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)
