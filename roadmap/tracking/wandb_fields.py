"""Conversion between ``summary.json`` and a W&B run's config and summary.

The config has the run's definition under dotted keys (``design.kernel``, ``recipe.optimizer.lr``) and the names to
group by; W&B's summary has the other fields of ``summary.json``. Runs of other projects have the fields they logged.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from roadmap.errors import RequestError
from roadmap.formatting import flatten_dict, listed
from roadmap.schema.summary import Summary
from roadmap.untrusted_io import parse_json
from roadmap.validation import converted

NAMES = ("regime", "step", "variant")
DEFINITION = "definition"
RECIPE_NAME = "recipe.name"  # not part of a definition, which has the recipe's settings
# by W&B's state; any other state ("crashed", "killed", …) is "interrupted"
STATUS = {"finished": "finished", "failed": "failed", "running": "running", "pending": "running"}
# the columns of a run of another project
COLUMNS = (*Summary.__struct_fields__, "pretrained")
UNITS = ("percent", "fraction")


@dataclass(frozen=True)
class Keys:
    """How to read runs of other projects: their key of the accuracy, its unit, their key of the epoch."""

    top1: str | None = None
    fraction: bool = False  # the accuracy is between 0 and 1
    epoch: str | None = None  # None: `epoch` if a row has it, else W&B's step

    @classmethod
    def from_query(cls, query: str) -> "Keys":
        """Parse ``top1=val/acc&unit=fraction&epoch=trainer/epoch``, the part of a wandb:// address after its ``?``."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        unknown = [key for key in given if key not in ("top1", "unit", "epoch")]
        if unknown:
            raise RequestError(f"unknown key {unknown[0]} in ?{query} (choose top1, unit or epoch)")
        unit = given.get("unit", "percent")
        if unit not in UNITS:
            raise RequestError(f"unknown unit '{unit}' in ?{query} (choose {listed(UNITS)})")
        return cls(given.get("top1"), unit == "fraction", given.get("epoch"))

    def percent(self, value: Any) -> float | None:
        """Return an accuracy in percent, None if the value is not a number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return 100.0 * value if self.fraction else float(value)


def config_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return W&B's config of one of our runs: definition and names under dotted keys, without nested dicts.

    The definition is also there as JSON, because W&B's client sends 1 for 1.0.
    """
    names = {name: summary[name] for name in NAMES} | {RECIPE_NAME: summary["recipe"]}
    return flatten_dict(summary["definition"]) | names | {DEFINITION: json.dumps(summary["definition"])}


def summary_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return W&B's summary of one of our runs: the fields of ``summary.json`` that are not in its config."""
    config = config_of(summary)
    return {
        key: value
        for key, value in summary.items()
        if key not in ("design", "definition", "data", "recipe") and not (key in config and config[key] == value)
    }


def is_ours(config: Mapping[str, Any]) -> bool:
    """Return whether ``config_of`` made this config."""
    return {*NAMES, RECIPE_NAME, "data.name", DEFINITION} <= set(config)


def our_summary(run_id: str, state: str, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``summary.json`` of a run that we logged. Raises ValueError if a field is broken."""
    definition = parse_json(config[DEFINITION])
    if not isinstance(definition, dict) or not isinstance(definition.get("design"), dict):
        raise ValueError("its definition has no design")
    named = {name: config[name] for name in NAMES} | {"recipe": config[RECIPE_NAME], "data": config["data.name"]}
    plain = {key: value for key, value in definition.items() if key in COLUMNS and not isinstance(value, dict)}
    logged = {key: value for key, value in summary.items() if not key.startswith("_")}
    status = logged.get("status") or "running"
    # a run that died never logged its final status
    if status == "running":
        status = STATUS.get(state, "interrupted")
    known = dict.fromkeys(COLUMNS) | {"schema": 1} | plain | {"design": definition["design"]} | logged | named
    known |= {"run_id": run_id, "status": status, "definition": definition}
    converted(known, Summary)
    return known


def their_summary(run_id: str, state: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same columns, without the accuracy, for a run of another project; None where it has no value.

    If its config has no integer ``seed``, its id is part of its definition, so that it counts as no other run's repeat.
    """
    known: dict[str, Any] = dict.fromkeys(COLUMNS)
    for key, kind in (("seed", int), ("epochs", int), ("batch_size", int), ("image_size", int), ("precision", str)):
        value = config.get(key)
        if isinstance(value, kind) and not isinstance(value, bool):
            known[key] = value
    definition = flatten_dict({key: value for key, value in config.items() if not key.startswith("_")})
    if known["seed"] is None:
        definition["run_id"] = run_id
    status = STATUS.get(state, "interrupted")
    return known | {"run_id": run_id, "status": status, "design": {}, "definition": definition}


def merged_rows(rows: Iterable[Mapping[str, Any]], keys: Keys) -> list[dict[str, Any]]:
    """Return W&B's rows as lines of metrics.jsonl: one per epoch, in order, later values replacing earlier ones."""
    epochs: dict[int, dict[str, Any]] = {}
    for row in rows:
        if (line := _line(row, keys)) is not None:
            epochs[line["epoch"]] = epochs.get(line["epoch"], {}) | line
    return [epochs[epoch] for epoch in sorted(epochs)]


def _line(row: Mapping[str, Any], keys: Keys) -> dict[str, Any] | None:
    """Return a row as a line of ``metrics.jsonl``, None if its epoch is not an integer."""
    name = keys.epoch or ("epoch" if "epoch" in row else "_step")
    epoch = row.get(name)
    if isinstance(epoch, bool) or not isinstance(epoch, int | float) or epoch != epoch // 1:
        return None
    ours = {"epoch": int(epoch)} | {key: value for key, value in row.items() if key[:1] != "_" and key != "epoch"}
    top1 = keys.percent(row.get(keys.top1)) if keys.top1 else None
    return ours if top1 is None else ours | {"top1": top1}
