"""A screening design and its effects as text."""

from typing import Any

import numpy as np
import pandas as pd

from roadmap.formatting import aligned, format_p, number
from roadmap.screening.designs import ScreeningDesign
from roadmap.screening.effects import LackOfFit, MainEffects
from roadmap.statistics.correction import ALPHA

SIZES = (0.5, 1.0, 2.0)  # effects whose power is shown, in standard deviations of one run


def design_text(design: ScreeningDesign) -> str:
    """Return what the design will estimate and how well, before anything is trained."""
    names, errors = design.names, design.standard_errors()
    shifts, pairs = design.aliases()
    powers = [design.power(size, ALPHA / len(names)) for size in SIZES]
    rows = [
        [name, f"{error:.2f}", *(number(power[place], ".2f") for power in powers), _alias(shifts[place], pairs, names)]
        for place, (name, error) in enumerate(zip(names, errors, strict=True))
    ]
    header = ["effect", "SE", *(f"power {size:g}" for size in SIZES), "largest alias"]
    combinations = len(np.unique(design.masks))
    lines = [
        f"screening: {len(design.masks)} runs of {combinations} of {len(design.allowed):,} allowed combinations, "
        f"{design.kind}, D-efficiency {design.efficiency:.3f} (1: orthogonal), {design.error_df} degrees of "
        "freedom for the error",
        aligned(header, rows),
        "SE: in standard deviations of one design between seeds, if main effects suffice; orthogonal columns have "
        f"{2 / len(design.masks) ** 0.5:.2f}",
        f"power: to find an effect of so many standard deviations at {ALPHA:g} / {len(names)} (Bonferroni)",
        "alias: how far an interaction of size 1 (half the difference of one change's effects with and without the "
        "other) moves the effect",
    ]
    if not design.error_df:
        lines.append(
            "caution: no degrees of freedom for an error, so effects have no intervals; choose a larger study.n"
        )
    return "\n".join(lines)


def _alias(shifts: np.ndarray, pairs: list[tuple[int, int]], names: tuple[str, ...]) -> str:
    """Return the pair whose interaction shifts an effect most."""
    if not len(pairs) or np.abs(shifts).max() < 0.005:
        return "none"
    largest = int(np.argmax(np.round(np.abs(shifts), 9)))
    one, other = pairs[largest]
    return f"{shifts[largest]:+.2f} {names[one]} × {names[other]}"


def effects_text(found: MainEffects) -> str:
    """Return the table of effects, and notes on how to read it."""
    table = found.table
    columns = {
        "change": [*table["change"]],
        "effect ± SE": [
            f"{effect:+.2f}" + ("" if pd.isna(se) else f" ± {se:.2f}")
            for effect, se in zip(table["effect"], table["se"], strict=True)
        ],
        "95 %": _intervals(table, ""),
        "p (Holm)": [*map(format_p, table["p_holm"])],
        "on the path": [number(value, "+.2f") for value in table["path"]],
        "95 % ": _intervals(table, "path_"),
        "paper Δ": [number(value, "+.2f") for value in table["paper"]],
    }
    columns = {name: cells for name, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return "\n".join([aligned([*columns], [*map(list, zip(*columns.values(), strict=True))]), *notes(found)])


def notes(found: MainEffects) -> list[str]:
    """Return how the effects were estimated, and how well they fit."""
    design, (index, expected) = found.design, found.furthest
    run = found.runs.iloc[index]
    missing = found.planned - len(found.runs)
    lines = {
        "effect: mean top-1 after the last epoch with the change minus without, percentage points, over "
        f"{len(design.allowed):,} allowed combinations of all changes, by least squares from {len(found.runs)} runs of "
        f"{len(np.unique(design.masks))} combinations": True,
        f"residual standard deviation {found.residual_sd:.2f} with {design.error_df} degrees of freedom, from seeds "
        f"and interactions; main effects explain {100 * found.explained:.0f} % of the variance (adjusted R²)": (
            design.error_df
        ),
        "caution: no degrees of freedom for an error, so effects have no intervals": not design.error_df,
        _fit_words(found.lack_of_fit): design.error_df,
        f"furthest from the effects' sum: {run['variant']} seed {run['seed']:.0f} with {run['top1']:.2f} %, expected "
        f"{expected:.2f} %": design.error_df,
        "on the path: the gap of the change's step to the step before it": found.table["path"].notna().any(),
        f"caution: {missing} of {found.planned} planned runs are failed, unfinished or missing; if poor designs "
        "fail, effects are biased": missing,
    }
    return [line for line, holds in lines.items() if holds]


def _fit_words(fit: LackOfFit) -> str:
    if np.isnan(fit.f):
        return "lack of fit is not tested: no design was run with two seeds"
    test = (
        f"F({fit.df}, {fit.pure_df}) = {fit.f:.2f}, p {format_p(fit.p)}, against {fit.sd:.2f} between seeds of "
        f"{fit.designs} designs"
    )
    if fit.p < ALPHA:
        return f"lack of fit: {test}: changes interact, so an effect is a mean over the others, not what each would add"
    return f"lack of fit: none beyond chance ({test}), which does not prove that changes do not interact"


def record(found: MainEffects) -> dict[str, Any]:
    """Return everything as plain values for JSON: ``changes``, ``lack_of_fit``, ``notes``; missing values None."""
    table = found.table.astype(object).where(found.table.notna(), None)
    fit = {name: None if value != value else value for name, value in vars(found.lack_of_fit).items()}
    numbers = {"residual_sd": found.residual_sd, "error_df": found.design.error_df, "explained": found.explained}
    plain = {name: None if value != value else value for name, value in numbers.items()}
    return {"changes": table.to_dict("records"), **plain, "lack_of_fit": fit, "notes": notes(found)}


def _intervals(table: pd.DataFrame, prefix: str) -> list[str]:
    ends = zip(table[f"{prefix}low"], table[f"{prefix}high"], strict=True)
    return ["" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends]
