"""A comparison as text: for a terminal, for Markdown and for LaTeX."""

import re
from typing import Any

import pandas as pd

from roadmap.comparison.baseline_step import PaperPath
from roadmap.comparison.compare import Comparison
from roadmap.comparison.statistics import MOST_SEEDS
from roadmap.formatting import aligned, four_digits, printable, sides

# What two groups may share; said once above the table, or in columns where they do not.
SHARED = ("regime", "recipe", "data", "epochs", "batch_size", "image_size", "precision")
LATEX = {"±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "×": r"$\times$", "–": "--", "−": "$-$"}

Cells = tuple[list[str], list[list[str]]]


def text(comparison: Comparison) -> str:
    """Everything, for a terminal."""
    parts = [shared(comparison.table), aligned(*accuracy_cells(comparison.table)), *notes(comparison)]
    if comparison.table["paper_delta"].notna().any() and comparison.table["delta"].notna().any():
        parts += ["\nagainst the paper", aligned(*paper_cells(comparison.table))]
    for agreement in comparison.agreements:
        parts += agreement.sentences()
    return "\n".join(part for part in parts if part)


def markup(header: list[str], rows: list[list[str]], kind: str) -> str:
    """The cells as a Markdown (``github``) or LaTeX (``latex_booktabs``) table."""
    from tabulate import tabulate

    if kind == "github":
        rows = [[_in_markdown(cell) for cell in row] for row in rows]
    written = tabulate(rows, header, tablefmt=kind, disable_numparse=True, colalign=sides(header, rows))
    for letter, command in LATEX.items() if kind.startswith("latex") else ():
        written = written.replace(letter, command)
    return written + "\n"


def _in_markdown(cell: str) -> str:
    """A cell that stays one, and text: no column's end, no tag of HTML, no link."""
    return re.sub(r"([\\|`\[]|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(printable(cell).splitlines()))


def shared(table: pd.DataFrame) -> str:
    """What all groups have in common, in a line."""
    return ", ".join(f"{name} {table[name].iloc[0]}" for name in SHARED if table[name].nunique(dropna=False) == 1)


def accuracy_cells(table: pd.DataFrame) -> Cells:
    """The table of accuracies and gaps: only columns that say something here."""
    columns: dict[str, list[str]] = {}
    for name in SHARED:
        if table[name].nunique(dropna=False) > 1:
            columns[name] = [_integer(value) for value in table[name]]
    columns["variant"] = list(table["variant"])
    columns["n"] = [str(n) for n in table["n"]]
    spread = ["" if pd.isna(std) else f" ± {std:.2f}" for std in table["top1_std"]]
    columns["top-1 (%)"] = [_number(top1) + std for top1, std in zip(table["top1"], spread, strict=True)]
    columns["95 %"] = _intervals(table, "top1", ".2f")
    if table["delta"].notna().any():
        parents = [None if pd.isna(parent) else parent for parent in table["parent"]]
        if any(
            parent != PaperPath().parent(v, ()) for v, parent in zip(table["variant"], parents, strict=True) if parent
        ):
            columns["against"] = [parent or "-" for parent in parents]
        columns["Δ"] = [_number(delta, "+.2f") for delta in table["delta"]]
        columns["95 % of Δ"] = _intervals(table, "delta", "+.2f")
        columns["p (Holm)"] = [
            "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in table["delta_p_holm"]
        ]
        columns["more seeds"] = [_seeds(seeds) for seeds in table["more_seeds"]]
    columns["GMACs"] = [_number(value, ".4g") for value in table["gmacs"]]
    columns["params (M)"] = [_number(value) for value in table["params_m"]]
    columns["images/s"] = [_number(value, ".0f") for value in table["images_per_second"]]
    for mode in ("inference", "training"):
        if (name := f"bench_{mode}") in table:
            columns[f"{mode} images/s (bench)"] = [
                "-" if pd.isna(value) else four_digits(value) for value in table[name]
            ]
    return _filled(columns)


def paper_cells(table: pd.DataFrame) -> Cells:
    """Our gaps beside the paper's, with the verdict on each."""
    table = table[table["paper_delta"].notna() & table["delta"].notna()]
    columns = {
        "regime": list(table["regime"]) if table["regime"].nunique() > 1 else [""] * len(table),
        "variant": list(table["variant"]),
        "Δ": [_number(delta, "+.2f") for delta in table["delta"]],
        "paper Δ": [_number(delta, "+.2f") for delta in table["paper_delta"]],
        "verdict": list(table["verdict"]),
    }
    return _filled(columns)


def grouped_cells(table: pd.DataFrame) -> Cells:
    """The table of ``select.grouped``."""
    keys = [name for name in table if name not in ("runs", "designs", "top1", "top1_std", "top1_min", "top1_max")]
    columns = {str(name): [_integer(value) for value in table[name]] for name in [*keys, "runs", "designs"]}
    columns |= {
        header: [_number(value) for value in table[name]]
        for name, header in (
            ("top1", "mean top-1 (%)"),
            ("top1_std", "std of runs"),
            ("top1_min", "least"),
            ("top1_max", "greatest"),
        )
    }
    return _filled(columns)


def notes(comparison: Comparison) -> list[str]:
    """How to read the table, and what to be careful of."""
    table = comparison.table
    lines = ["top-1: after the last epoch, mean over n seeds ± standard deviation, with the mean's 95 % interval"]
    if (table["n"] <= 1).all():
        lines = ["top-1: after the last epoch; one seed each, so there is no interval and no test: gaps may be noise"]
    if (table["n"] == 0).all():
        lines = ["no run has finished: there is no accuracy yet"]
    if table["delta"].notna().any():
        lines.append(_about_gaps(table))
    lines += [f"caution: {caution}" for caution in comparison.cautions]
    unfinished = int(table["unfinished"].sum())
    lines += (
        [f"caution: {unfinished} unfinished run{'s' * (unfinished != 1)} left out of the means"] if unfinished else []
    )
    return lines


def _about_gaps(table: pd.DataFrame) -> str:
    tested = int(table["delta_p"].notna().sum())
    against = "the variant named" if "against" in accuracy_cells(table)[0] else "the step before"
    pairs = table.loc[table["delta_p"].notna(), "paired"]
    how = "paired by seed" if len(pairs) and all(pairs) else "paired by seed where seeds are shared"
    line = f"Δ: to {against}, {how}"
    if tested:
        line += f"; p: of {tested} t-tests, corrected by Holm's method; more seeds: to resolve this gap with power 0.8"
    return line


def _filled(columns: dict[str, list[str]]) -> Cells:
    kept = {name: cells for name, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def _intervals(table: pd.DataFrame, name: str, form: str) -> list[str]:
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["" if pd.isna(low) else f"{low:{form}} to {high:{form}}" for low, high in ends]


def _number(value: float, form: str = ".2f") -> str:
    return "-" if pd.isna(value) else format(value, form)


def _integer(value: Any) -> str:
    """A field as it was written: whole numbers, which pandas makes floats beside missing ones, without a point."""
    return "-" if pd.isna(value) else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _seeds(value: float) -> str:
    return "" if pd.isna(value) else f"> {MOST_SEEDS}" if value == float("inf") else str(int(value))
