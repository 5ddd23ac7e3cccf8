"""Tables of evaluation records for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.evaluation.reading import evaluation_rows
from roadmap.formatting import aligned, number
from roadmap.schema.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, SYNTHETIC_FROST

Record = dict[str, Any]
CONDITIONS = ("data", "image_size", "resize", "crop_ratio", "interpolation", "precision")
ALEXNET_ERRORS = Path(__file__).parent.parent / "paper" / "alexnet_corruption_errors.csv"


def text(records: Sequence[Record]) -> str:
    """Return a table with one row per network, then corruptions, then notes."""
    rows = pd.DataFrame([row | {"record": i} for i, record in enumerate(records) for row in evaluation_rows(record)])
    shared = [name for name in CONDITIONS if rows[name].nunique() == 1]
    lines = [", ".join(f"{name} {rows[name].iloc[0]}" for name in shared)] if shared else []
    whole, corrupted = rows[rows["part"] == ""], rows[rows["corruption"].notna()]
    if len(whole):
        lines.append(_whole_table(whole, [name for name in CONDITIONS if name not in shared]))
    if len(corrupted):
        lines += ["", *(_by_severity(corrupted) if len(records) == 1 else _by_group(corrupted))]
    lines += [
        f"caution: {record['label']}: this checkpoint was selected on these images, so its accuracy is optimistic"
        for record in records
        if record["chosen_on_these_images"]
    ]
    return "\n".join(lines)


def _whole_table(rows: pd.DataFrame, differing: Sequence[str]) -> str:
    columns = {"network": list(rows["label"]), **{name: list(rows[name].astype(str)) for name in differing}}
    epochs = ["" if pd.isna(epoch) else f", epoch {int(epoch)}" for epoch in rows["epoch"]]
    averaged = [", averaged" if weights == "averaged" else "" for weights in rows["weights"]]
    columns["weights"] = list(rows["checkpoint"] + epochs + averaged)
    columns["images"] = list(rows["images"].astype(str))
    headers = {"top1": "top-1 (%)", "top5": "top-5 (%)", "loss": "loss", "ece": "ECE (%)", "ece_floor": "floor (%)"}
    if rows["ece_floor"].isna().all():
        del headers["ece_floor"]  # in older records
    for name, header in headers.items():
        columns[header] = [number(value, ".4f" if name == "loss" else ".2f") for value in rows[name]]
    return aligned(list(columns), list(zip(*columns.values(), strict=True)))


def _by_severity(rows: pd.DataFrame) -> list[str]:
    """Return one network's accuracy on each corruption at each severity, with means."""
    top1 = accuracies(rows)
    table = top1.assign(mean=top1.mean(axis=1))
    cells = [[name, *map(number, values)] for name, values in zip(table.index, table.to_numpy(), strict=True)]
    error = 100 - float(table["mean"].mean())
    lines = [
        aligned(["top-1 (%) at severity", *map(str, table.columns)], cells),
        f"mean corruption error {_over(top1)}: {error:.2f} %, not normalised (no mCE)",
    ]
    relative = mce(rows)
    return lines if relative is None else [*lines, f"mCE, normalised by AlexNet's errors: {relative:.1f}"]


def _by_group(rows: pd.DataFrame) -> list[str]:
    """Return the accuracies of several networks on groups of corruptions, with means."""
    networks = [own for _, own in rows.groupby("record")]
    means = [accuracies(own).mean(axis=1) for own in networks]
    table = {"network": [own["label"].iloc[0] for own in networks], "corrupted (%)": [one.mean() for one in means]}
    for group, names in GROUPS.items():
        inside = {*names, SYNTHETIC_FROST} if "frost" in names else {*names}
        table[f"{group} (%)"] = [one[one.index.isin(inside)].mean() for one in means]
    table["mCE"] = [mce(own) for own in networks]
    columns = {name: values for name, values in table.items() if pd.notna(values).any()}
    cells = [[label, *map(number, values)] for label, *values in zip(*columns.values(), strict=True)]
    return [aligned(list(columns), cells), f"corrupted: the mean {_over(accuracies(networks[0]))}, not normalised"]


def _over(top1: pd.DataFrame) -> str:
    count = f"{len(top1)} corruption{'s' * (len(top1) > 1)}"
    return f"over {count} at severities {', '.join(map(str, top1.columns))}"


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one network's accuracies in percent, by corruption and severity."""
    table = rows.pivot(index="corruption", columns="severity", values="top1")
    return table.loc[list(dict.fromkeys(rows["corruption"]))].rename(columns=int)


def corruption_errors(top1: pd.DataFrame) -> pd.Series:
    """Return each corruption's mean error over severities relative to AlexNet's, in percent; ``top1`` as above."""
    alexnet = pd.read_csv(ALEXNET_ERRORS, index_col="corruption")["top1_error"]
    return (100 - top1.mean(axis=1)) / alexnet[top1.index]


def mce(rows: pd.DataFrame) -> float | None:
    """Return the mean corruption error (Hendrycks & Dietterich, arXiv:1903.12261, section 4) in percent.

    It is None unless the rows hold all corruptions at all severities of the published images.
    """
    top1 = accuracies(rows).reindex(index=CORRUPTIONS, columns=SEVERITIES)
    complete = set(rows["data"]) == {"imagenet_c"} and top1.notna().all(axis=None)
    return float(corruption_errors(top1).mean()) if complete else None
