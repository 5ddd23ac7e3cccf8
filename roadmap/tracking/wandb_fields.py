"""What a run is called at W&B: the fields of ``summary.json`` as a flat config and a summary, and back.

The config has the run's definition under dotted keys (``design.kernel``, ``recipe.optimizer.lr``) and the names to
group by; W&B's summary has the other fields of ``summary.json``. Runs that others logged have what they have.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from roadmap.checked import listed
from roadmap.errors import RequestError
from roadmap.foreign import parse_json
from roadmap.nested import flat

NAMES = ("regime", "step", "variant")
DEFINITION = "definition"
RECIPE_NAME = "recipe.name"  # no part of a definition, which knows a recipe by what it sets
# W&B's states; a run is "crashed" there once nothing more is heard of it
STATUS = {"finished": "finished", "failed": "failed", "running": "running", "pending": "running"}
# The columns of a run whose maker did not know of ours.
COLUMNS = (
    *("run_id", "status", *NAMES, "design", "seed", "data", "recipe", "pretrained", "epochs", "batch_size"),
    *("image_size", "gmacs", "params_m", "activations_m", "top1", "top5", "best_top1", "train_seconds"),
    *("images_per_second", "peak_memory_gb", "device", "precision", "git_commit", "versions", "started", "ended"),
    *("error", "definition"),
)


@dataclass(frozen=True)
class Keys:
    """How runs that others logged are to be read: their key of the accuracy, its unit, their key of the epoch."""

    top1: str | None = None
    share: bool = False  # the accuracy is a share of 1; it becomes percent
    epoch: str | None = None  # None: `epoch` where there is one, W&B's own step elsewhere

    @classmethod
    def from_query(cls, query: str) -> "Keys":
        """Of ``top1=val/acc&unit=share&epoch=trainer/epoch``, the part of a wandb:// address after its ``?``."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        unknown = [key for key in given if key not in ("top1", "unit", "epoch")]
        if unknown:
            raise RequestError(f"unknown key {unknown[0]} in ?{query}; choose top1, unit or epoch")
        units = ("percent", "share")
        if given.get("unit", "percent") not in units:
            raise RequestError(f"unknown unit '{given['unit']}' in ?{query}; choose {listed(units)}")
        return cls(given.get("top1"), given.get("unit") == "share", given.get("epoch"))

    def percent(self, value: Any) -> float | None:
        """An accuracy in percent; None for what is no number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return 100.0 * value if self.share else float(value)


def config_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """W&B's config of one of our runs: definition and names under dotted keys, no dicts in it.

    The definition is there once more as JSON, exact: W&B's client sends 1 for 1.0.
    """
    names = {name: summary[name] for name in NAMES} | {RECIPE_NAME: summary["recipe"]}
    return flat(summary["definition"]) | names | {DEFINITION: json.dumps(summary["definition"])}


def summary_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """W&B's summary of one of our runs: the fields of ``summary.json`` that its config does not have."""
    config = config_of(summary)
    return {
        key: value
        for key, value in summary.items()
        if key not in ("design", "definition", "data", "recipe") and not (key in config and config[key] == value)
    }


def is_ours(config: Mapping[str, Any]) -> bool:
    """Whether a run's config is one that ``config_of`` made."""
    return {*NAMES, RECIPE_NAME, "data.name", DEFINITION} <= set(config)


def our_summary(run_id: str, state: str, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``summary.json`` of a run that we logged. Raises ValueError where its definition is not whole."""
    definition = parse_json(config[DEFINITION])
    if not isinstance(definition, dict) or not isinstance(definition.get("design"), dict):
        raise ValueError("its definition has no design")
    named = {name: config[name] for name in NAMES} | {"recipe": config[RECIPE_NAME], "data": config["data.name"]}
    plain = {key: value for key, value in definition.items() if key in COLUMNS and not isinstance(value, dict)}
    logged = {key: value for key, value in summary.items() if not key.startswith("_")}
    status = logged.get("status") or "running"
    # the run's own word, unless it had no time for a last one
    if status == "running":
        status = STATUS.get(state, "interrupted")
    known = dict.fromkeys(COLUMNS) | plain | {"design": definition["design"], "pretrained": None} | logged | named
    return known | {"run_id": run_id, "status": status, "definition": definition}


def their_summary(run_id: str, state: str, config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """The same columns for a run that others logged, None where it has nothing; without the accuracy.

    A run whose config has no whole number ``seed`` has its id in its definition: it is nobody's repetition.
    """
    known: dict[str, Any] = dict.fromkeys(COLUMNS)
    for key, kind in (("seed", int), ("epochs", int), ("batch_size", int), ("image_size", int), ("precision", str)):
        value = config.get(key)
        if isinstance(value, kind) and not isinstance(value, bool):
            known[key] = value
    definition = flat({key: value for key, value in config.items() if not key.startswith("_")})
    if known["seed"] is None:
        # else runs of one config would count as seeds of it
        definition["run_id"] = run_id
    return known | {
        "run_id": run_id,
        "status": STATUS.get(state, "interrupted"),
        "design": {},
        "definition": definition,
    }


def merged_rows(rows: Iterable[Mapping[str, Any]], keys: Keys) -> list[dict[str, Any]]:
    """W&B's rows as lines of metrics.jsonl, one an epoch, in order."""
    epochs: dict[int, dict[str, Any]] = {}
    for row in rows:
        if (line := _line(row, keys)) is not None:
            epochs[line["epoch"]] = epochs.get(line["epoch"], {}) | line
    return [epochs[epoch] for epoch in sorted(epochs)]


def _line(row: Mapping[str, Any], keys: Keys) -> dict[str, Any] | None:
    """A row as a line of ``metrics.jsonl``; None for one that is at no whole epoch."""
    name = keys.epoch or ("epoch" if "epoch" in row else "_step")
    epoch = row.get(name)
    if isinstance(epoch, bool) or not isinstance(epoch, int | float) or epoch != epoch // 1:
        return None
    ours = {"epoch": int(epoch)} | {key: value for key, value in row.items() if key[:1] != "_" and key != "epoch"}
    top1 = keys.percent(row.get(keys.top1)) if keys.top1 else None
    return ours if top1 is None else ours | {"top1": top1}
