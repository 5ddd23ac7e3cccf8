"""The step table: one row per step of a path, with the accuracy of its runs and the paper's values."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from roadmap.comparison.groups import COSTS, MEASURED, accuracies, gaps_to
from roadmap.comparison.text import gap_cells
from roadmap.config.overrides import is_toggle
from roadmap.formatting import aligned, mean_and_std, number
from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.runs.identity import check_comparable, step_key
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest
from roadmap.steps.path import Step


def step_table(runs: pd.DataFrame, steps: Sequence[Step], test: GapTest = DEFAULT_TEST) -> pd.DataFrame:
    """One row per step: the columns of ``groups.summarise``, with ``delta`` to the parent step, and published values.

    Runs are assigned to steps by design and recipe, not by name. Accuracies are in percent, ``gmacs`` ×10⁹ and
    ``params_m`` ×10⁶. ``paper_top1``, ``paper_top1_std``, ``paper_gflops`` and ``paper_delta`` are NaN if the paper has
    no such step. Raises RequestError if finished runs differ in more than design, recipe and seed.
    """
    finished = (runs[runs["status"] == "finished"] if len(runs) else runs).reset_index(drop=True)
    check_comparable(finished)
    own_runs = runs_of_steps(finished, steps)
    regime = steps[0].composed.regime.name
    paper = published_steps(SCALED_FROM.get(regime, regime))
    variants = {step.name: step.composed.variant for step in steps}
    rows, samples = [], []
    for step in steps:
        mine = finished.loc[own_runs[step.name]]
        samples.append({int(seed): top1 for seed, top1 in zip(mine["seed"], mine["top1"], strict=True)})
        # found by variant, because a toggled step is not the published one
        published, before = (paper.get(variants.get(name, "")) for name in (step.name, step.parent or ""))
        own = published if regime not in SCALED_FROM else None
        rows.append(
            {"step": step.name, "label": step.label, "section": step.section}
            | {"adopted": step.adopted, "parent": step.parent}
            | {name: mine[name].astype(float).mean() for name in (*COSTS, *MEASURED) if name in mine}
            | {
                "paper_top1": own.top1 if own else float("nan"),
                "paper_top1_std": own.top1_std if own and own.top1_std is not None else float("nan"),
                "paper_gflops": float(own.gflops) if own else float("nan"),
                "paper_delta": published.top1 - before.top1 if published and before else float("nan"),
            }
        )
    places = {step.name: place for place, step in enumerate(steps)}
    parents = [places[step.parent] if step.parent else None for step in steps]
    return pd.concat([pd.DataFrame(rows), accuracies(samples), gaps_to(parents, samples, test)], axis=1)


def on_path(runs: pd.DataFrame, steps: Sequence[Step]) -> list[bool]:
    """Whether each run is one of the steps, by design and recipe."""
    keys = set(_step_keys(steps))
    return [key in keys for key in _run_keys(runs)]


def runs_of_steps(runs: pd.DataFrame, steps: Sequence[Step]) -> dict[str, list[Any]]:
    """The index in ``runs`` of each run of each step, by the step's name; unfinished runs included."""
    of_key: dict[bytes, list[Any]] = {}
    for index, key in zip(runs.index, _run_keys(runs), strict=True):
        of_key.setdefault(key, []).append(index)
    return {step.name: of_key.get(key, []) for step, key in zip(steps, _step_keys(steps), strict=True)}


def _run_keys(runs: pd.DataFrame) -> list[bytes]:
    return [step_key(design, recipe) for design, recipe in zip(runs["design"], runs["recipe"], strict=True)]


def _step_keys(steps: Sequence[Step]) -> list[bytes]:
    return [step_key(step.composed.design.to_dict(), step.composed.recipe.name) for step in steps]


def render(table: pd.DataFrame, regime: str) -> str:
    """The step table as text, with the paper's columns where it has values."""
    factor, unit = mac_unit(table)
    header = ["step", "change", "top-1 (%)", "Δ", "n", unit, "params (M)"]
    paper: dict[str, tuple[str, str]] = {}
    if table["paper_top1"].notna().any():
        paper = {"paper top-1": ("paper_top1", ".2f"), "paper Δ": ("paper_delta", "+.2f")}
        paper["paper GFLOPs"] = ("paper_gflops", ".2f")
    elif regime in SCALED_FROM and table["paper_delta"].notna().any():
        paper = {f"paper Δ ({SCALED_FROM[regime]}, ImageNet)": ("paper_delta", "+.2f")}
    lines = [
        [
            row["step"] + ("" if row["adopted"] else " (rejected)"),
            row["label"],
            mean_and_std(row["top1"], row["top1_std"]),
            gap,
            str(row["n"]),
            number(row["gmacs"] * factor),
            number(row["params_m"]),
            *(number(row[name], form) for name, form in paper.values()),
        ]
        for row, gap in zip(table.to_dict("records"), gap_cells(table), strict=True)
    ]
    return aligned([*header, *paper], lines)


def mac_unit(table: pd.DataFrame) -> tuple[float, str]:
    """The factor from GMACs to the unit that suits these networks, and the unit's name."""
    return (1.0, "GFLOPs (MACs)") if table["gmacs"].max() >= 0.1 else (1000.0, "MFLOPs (MACs)")


def title(steps: Sequence[Step]) -> str:
    """The title of a roadmap figure."""
    return f"From {networks(steps, ' to ')}, one change at a time"


def networks(steps: Sequence[Step], arrow: str = " → ") -> str:
    """The names of the regime's first and last network."""
    regime = steps[0].composed.regime
    return f"{regime.baseline}{arrow}{regime.result}"


def subtitle(runs: pd.DataFrame, steps: Sequence[Step]) -> str:
    """Data, regime, epochs and seeds of the finished runs, and the toggles of all steps."""
    finished = runs[runs["status"] == "finished"]
    return f"{data_words(finished)}; {regime_words(finished)}; accuracy after the last epoch{toggle_words(steps)}"


def data_words(runs: pd.DataFrame) -> str:
    """The data of runs that all have the same data."""
    first = runs.iloc[0]
    source = " held out of the training images" if held_out(first["definition"]) else ""
    return (
        f"data {first['data']}: {first['train_images']:,} images to train on, {first['val_images']:,} to evaluate"
        f"{source}, {first['image_size']} pixels"
    )


def held_out(definition: Mapping[str, Any]) -> bool:
    """Whether a run was evaluated on images held out of the training set."""
    data = definition.get("data")  # only a name in old records
    return isinstance(data, Mapping) and bool(data.get("holdout"))


def regime_words(runs: pd.DataFrame) -> str:
    """The regime, epochs and seeds of runs of one regime."""
    seeds = sorted({int(seed) for seed in runs["seed"]})
    epochs = " and ".join(str(epochs) for epochs in sorted(set(runs["epochs"])))
    many = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return f"regime {runs['regime'].iloc[0]}, {epochs} epochs, {many} ({', '.join(map(str, seeds))})"


def toggle_words(steps: Sequence[Step]) -> str:
    """The toggles that all steps share, after a semicolon, or an empty text."""
    toggles = [o for o in steps[0].composed.overrides if is_toggle(o) and all(o in s.composed.overrides for s in steps)]
    return f"; every step with {', '.join(toggles)}" if toggles else ""
