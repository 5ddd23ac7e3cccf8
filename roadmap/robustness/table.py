"""Tables of accuracy on corrupted images, by variant and by step."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from roadmap.comparison.compare import Comparison, compare
from roadmap.comparison.groups import summarise
from roadmap.comparison.step_table import step_table
from roadmap.comparison.text import Cells, accuracy_cells, notes
from roadmap.robustness.corrupted_runs import CorruptedRuns
from roadmap.runs.identity import Parents, group_keys
from roadmap.steps.path import Step


def robust_comparison(robust: CorruptedRuns, path: Parents | None = None, *, force: bool = False) -> Comparison:
    """The comparison of ``compare`` with ``top1`` and ``delta`` on corrupted images.

    The table also has ``clean_top1`` and ``clean_delta``, and ``drop``, their accuracy lost to corruption.
    The paper has no such values by step, so its columns are empty.
    """
    corrupted = robust.runs.assign(top1=robust.runs["corrupted_top1"])
    comparison = compare(corrupted, path, force=force)
    table = comparison.table
    clean = summarise(robust.runs.assign(top1=robust.runs["clean_top1"]), path)
    clean = clean.set_index(pd.Index(group_keys(clean["definition"])))
    clean = clean.loc[group_keys(table["definition"])].reset_index(drop=True)
    paper = [name for name in table if str(name).startswith("paper_")]
    table = table.assign(**_clean_columns(table, clean), **dict.fromkeys(map(str, paper), np.nan))
    return replace(comparison, table=table, agreements=[])


def robust_step_table(robust: CorruptedRuns, steps: Sequence[Step]) -> pd.DataFrame:
    """``step_table`` with ``top1`` and ``delta`` on corrupted images, and the columns of ``robust_comparison``."""
    table = step_table(robust.runs.assign(top1=robust.runs["corrupted_top1"]), steps)
    clean = step_table(robust.runs.assign(top1=robust.runs["clean_top1"]), steps)
    paper = [name for name in table if str(name).startswith("paper_")]
    return table.assign(**_clean_columns(table, clean), **dict.fromkeys(map(str, paper), np.nan))


def _clean_columns(table: pd.DataFrame, clean: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        "clean_top1": clean["top1"],
        "clean_delta": clean["delta"],
        "drop": clean["top1"] - table["top1"],
    }


def corrupted_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table for other programs: ``corrupted_top1`` instead of ``top1``, without top-5 and the paper's columns."""
    own = table.rename(columns={name: f"corrupted_{name}" for name in table if str(name).startswith("top1")})
    return own.drop(columns=["top5", *(name for name in own if str(name).startswith("paper_") or name == "verdict")])


def robust_cells(table: pd.DataFrame) -> Cells:
    """The table of ``robust_comparison`` as text."""
    header, rows = accuracy_cells(table)
    place = header.index("top-1 (%)")
    names = ["clean (%)", "clean Δ"] if "Δ" in header else ["clean (%)"]
    forms = {"clean (%)": ("clean_top1", ".2f"), "clean Δ": ("clean_delta", "+.2f")}
    cells = [
        ["-" if pd.isna(value) else format(value, form) for value in table[column]]
        for column, form in map(forms.__getitem__, names)
    ]
    header = [*header[:place], *names, "corrupted (%)", *header[place + 1 :]]
    paired = zip(rows, zip(*cells, strict=True), strict=True)
    return header, [[*row[:place], *own, *row[place:]] for row, own in paired]


def robust_notes(robust: CorruptedRuns, comparison: Comparison) -> list[str]:
    """How to read the table, and the cautions."""
    first = f"corrupted: top-1 on {robust.words}, mean over these, not normalised (no mCE)"
    seeds = "one seed each, so there is no interval and no test: gaps may be noise"
    several = "mean over n seeds ± standard deviation, with the mean's 95 % interval"
    lines = [f"{first}; {seeds if (comparison.table['n'] <= 1).all() else several}"]
    _, *rest = notes(comparison)
    return [*lines, *rest]
