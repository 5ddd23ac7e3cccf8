"""The roadmap as a table: steps of a path with the finished runs that belong to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from roadmap.comparison.groups import COSTS, MEASURED, accuracies, gaps_to
from roadmap.config.overrides import is_toggle
from roadmap.formatting import aligned
from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.runs.identity import check_comparable, step_key
from roadmap.steps.path import Step


def step_table(runs: pd.DataFrame, steps: Sequence[Step]) -> pd.DataFrame:
    """One row a step: the columns of ``groups.summarise`` for its seeds, its ``delta`` being to the parent step.

    A run belongs to a step by its design and its recipe, whatever it was called. Accuracies in percent, ``gmacs``
    ×10⁹, ``params_m`` ×10⁶; the published top-1, its std, GFLOPs and delta where the regime has them. Raises
    RequestError for runs that differ in more than design, recipe and seed.
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
        # by variant: a toggled step is no longer the published one
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
    return pd.concat([pd.DataFrame(rows), accuracies(samples), gaps_to(parents, samples)], axis=1)


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
    """The table as text, the paper's numbers beside ours."""
    scaled = regime in SCALED_FROM
    header = ["step", "change", "top-1 (%)", "Δ", "n", *mac_header(table), "params (M)"]
    if table["paper_top1"].notna().any():
        header += ["paper top-1", "paper Δ", "paper GFLOPs"]
    elif scaled and table["paper_delta"].notna().any():
        header += [f"paper Δ ({SCALED_FROM[regime]}, ImageNet)"]
    lines = []
    for row in table.to_dict("records"):
        spread = "" if pd.isna(row["top1_std"]) else f" ± {row['top1_std']:.2f}"
        line = [
            row["step"] + ("" if row["adopted"] else " (left)"),
            row["label"],
            _number(row["top1"], ".2f") + spread,
            _number(row["delta"], "+.2f"),
            str(row["n"]),
            _number(row["gmacs"] * mac_factor(table), ".2f"),
            _number(row["params_m"], ".2f"),
        ]
        if "paper top-1" in header:
            line += [_number(row["paper_top1"], ".2f"), _number(row["paper_delta"], "+.2f")]
            line += [_number(row["paper_gflops"], ".2f")]
        elif len(header) > len(line):
            line += [_number(row["paper_delta"], "+.2f")]
        lines.append(line)
    return aligned(header, lines)


def mac_factor(table: pd.DataFrame) -> float:
    """From GMACs to the unit that a table of these networks is readable in: giga or mega."""
    return 1.0 if table["gmacs"].max() >= 0.1 else 1000.0


def mac_header(table: pd.DataFrame) -> list[str]:
    return ["GFLOPs (MACs)" if mac_factor(table) == 1 else "MFLOPs (MACs)"]


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def title(steps: Sequence[Step]) -> str:
    """The figure's title."""
    return f"From {networks(steps, ' to ')}, one change at a time"


def networks(steps: Sequence[Step], arrow: str = " → ") -> str:
    """A regime by the networks it goes from and to."""
    regime = steps[0].composed.regime
    return f"{regime.baseline}{arrow}{regime.result}"


def subtitle(runs: pd.DataFrame, steps: Sequence[Step]) -> str:
    """What was run: data, regime, epochs, seeds, as honest as a caption can be."""
    finished = runs[runs["status"] == "finished"]
    return f"{data_words(finished)}; {regime_words(finished)}; accuracy after the last epoch{toggle_words(steps)}"


def data_words(runs: pd.DataFrame) -> str:
    """The images of runs on the same data."""
    first = runs.iloc[0]
    apart = " held out of the training images" if held_out(first["definition"]) else ""
    return (
        f"data {first['data']}: {first['train_images']:,} images to train on, {first['val_images']:,} to evaluate"
        f"{apart}, {first['image_size']} pixels"
    )


def held_out(definition: Mapping[str, Any]) -> bool:
    """Whether a run was evaluated on training images that it was not trained on."""
    data = definition.get("data")
    # older records have but its name
    return isinstance(data, Mapping) and bool(data.get("holdout"))


def regime_words(runs: pd.DataFrame) -> str:
    """The regime, epochs and seeds of runs of one regime."""
    seeds = sorted({int(seed) for seed in runs["seed"]})
    epochs = " and ".join(str(epochs) for epochs in sorted(set(runs["epochs"])))
    many = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return f"regime {runs['regime'].iloc[0]}, {epochs} epochs, {many} ({', '.join(map(str, seeds))})"


def toggle_words(steps: Sequence[Step]) -> str:
    """What was toggled on every step, after a semicolon; nothing where nothing was."""
    toggles = [o for o in steps[0].composed.overrides if is_toggle(o) and all(o in s.composed.overrides for s in steps)]
    return f"; every step with {', '.join(toggles)}" if toggles else ""
