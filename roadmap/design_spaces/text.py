"""Error EDFs as text: a table, a sentence per pair, and cautions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadmap.design_spaces.design_samples import COSTS, DesignSample, shared_designs
from roadmap.design_spaces.edf import pairs, summary, unequal_costs
from roadmap.formatting import aligned


def words(samples: Sequence[DesignSample], weighed: str | None) -> str:
    """The numbers for a terminal: a row per space, a sentence per pair, and the cautions."""
    table, compared = summary(samples), pairs(samples)
    drawn = table["drawn"].iloc[0]
    header = ["space", "designs", "seeds", "median error (%)", "95 %", "best", f"best of {drawn}", "95 % of draws"]
    header += ["median GMACs", "params (M)"]
    lines = [
        [
            row["space"],
            str(row["designs"]),
            str(row["seeds_min"]) if row["seeds_min"] == row["seeds_max"] else f"{row['seeds_min']}–{row['seeds_max']}",
            f"{row['median']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['best']:.2f}",
            f"{row['best_of_mean']:.2f}",
            f"{row['best_of_low']:.2f} to {row['best_of_high']:.2f}",
            f"{row['gmacs']:.4g}",
            f"{row['params']:.3g}",
        ]
        for row in table.to_dict("records")
    ]
    said = [pair_words(row, len(compared)) for row in compared.to_dict("records")]
    return "\n".join([aligned(header, lines), *said, *cautions(samples, table, weighed)])


def note(samples: Sequence[DesignSample], table: pd.DataFrame, weighed: str | None) -> str:
    """The caption of the chart."""
    notes = [
        "Bands: 95 % at each error, by bootstrap over designs.",
        "Circles, at half of the designs: medians with their 95 % intervals.",
    ]
    if weighed:
        few = ", ".join(f"{row['space']} {row['effective']:.0f}" for row in table.to_dict("records"))
        notes.append(
            f"Normalised by {COSTS[weighed]}: designs of equal cost have the same weight in each space. "
            f"Effective number of designs: {few}."
        )
    compared = pairs(samples)
    said = [pair_words(row, len(compared)) for row in compared.to_dict("records")] if len(compared) == 1 else []
    said += cautions(samples, table, weighed)
    return " ".join([*notes, *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said)])


def pair_words(row: Mapping[Any, Any], tests: int) -> str:
    """The sentence on a pair of samples."""
    corrected = f", {row['p_holm']:.3g} by Holm's correction for {tests} pairs" if tests > 1 else ""
    test = "" if np.isnan(row["p"]) else f" (Kolmogorov-Smirnov p {row['p']:.3g}{corrected})"
    return (
        f"median of {row['other']} minus median of {row['one']}: {row['delta']:+.2f} points, 95 % {row['low']:+.2f} to "
        f"{row['high']:+.2f}; EDFs at most {row['distance']:.2f} apart{test}"
    )


def cautions(samples: Sequence[DesignSample], table: pd.DataFrame, weighed: str | None) -> list[str]:
    """A sentence on each reason to distrust the EDFs."""
    found = []
    if unequal := {cost: words for cost, words in unequal_costs(samples).items() if cost != weighed}:
        found.append(
            f"these spaces differ in cost ({'; '.join(unequal.values())}), which may explain the difference in error; "
            f"--normalise {' or '.join(unequal)} gives designs of equal cost the same weight"
        )
    if len({*table["seeds_min"], *table["seeds_max"]}) > 1:
        found.append("designs differ in the number of seeds; fewer seeds give noisier errors and a wider EDF")
    if both := shared_designs(samples):
        found.append(f"{both} of the designs are in more than one space, but p and intervals assume independent spaces")
    for row in table[table["missing"] > 0].to_dict("records"):
        found.append(f"{row['missing']} designs of {row['space']} have no finished run")
    return [f"caution: {sentence}" for sentence in found]
