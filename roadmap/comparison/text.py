"""A comparison as text, Markdown and LaTeX: cells of its tables, and how to read them."""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from roadmap.comparison.groups import PaperPath
from roadmap.formatting import decimals, format_p, interval, mean_and_std, number, printable, sides
from roadmap.statistics.correction import CORRECTION_NAMES
from roadmap.statistics.gaps import GapTest

# Fields that are printed once above the table if all groups share them, and as columns otherwise.
SHARED = ("regime", "recipe", "data", "epochs", "batch_size", "image_size", "precision")
LATEX = {"±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "×": r"$\times$", "–": "--", "−": "$-$"}

Cells = tuple[list[str], list[list[str]]]


def markup(header: list[str], rows: list[list[str]], kind: str) -> str:
    """The cells as a Markdown (``github``) or LaTeX (``latex_booktabs``) table."""
    from tabulate import tabulate

    if kind == "github":
        # everything that Markdown takes for a column, HTML or a link
        special = re.compile(r"([\\|`\[]|<(?=[A-Za-z/!?]))")
        rows = [[special.sub(r"\\\1", " ".join(printable(cell).splitlines())) for cell in row] for row in rows]
    written = tabulate(rows, header, tablefmt=kind, disable_numparse=True, colalign=sides(header, rows))
    for letter, command in LATEX.items() if kind.startswith("latex") else ():
        written = written.replace(letter, command)
    return written + "\n"


def shared(table: pd.DataFrame) -> str:
    """One line with the fields that all groups share."""
    return ", ".join(f"{name} {table[name].iloc[0]}" for name in SHARED if table[name].nunique(dropna=False) == 1)


def accuracy_cells(table: pd.DataFrame) -> Cells:
    """The table of accuracies and gaps, without empty columns."""
    columns = {name: [*map(_field, table[name])] for name in SHARED if table[name].nunique(dropna=False) > 1}
    columns["variant"] = list(table["variant"])
    columns["n"] = [*map(str, table["n"])]
    columns["top-1 (%)"] = [*map(mean_and_std, table["top1"], table["top1_std"])]
    columns["95 %"] = _intervals(table, "top1")
    if table["delta"].notna().any():
        if _other_parents(table):
            columns["against"] = [number(parent, "") for parent in table["parent"]]
        columns["Δ"] = gap_cells(table)
        columns["95 % of Δ"] = _intervals(table, "delta", "+")
        if table["paired"].eq(True).any():
            columns["r"] = _numbers(table["delta_r"], "+.2f")
        # the correction chosen, which is the last of them
        correction = [name for name in CORRECTION_NAMES if f"delta_p_{name}" in table][-1]
        columns[f"p ({CORRECTION_NAMES[correction]})"] = [*map(format_p, table[f"delta_p_{correction}"])]
        if "equal_p_corrected" in table:
            columns["p (equal)"] = [*map(format_p, table["equal_p_corrected"])]
        columns["outcome"] = list(table["outcome"])
        columns["more seeds"] = [*map(_seeds, table["more_seeds"], table["more_seeds_low"], table["more_seeds_high"])]
    columns["GMACs"] = _numbers(table["gmacs"], ".4g")
    columns["params (M)"] = _numbers(table["params_m"])
    columns["images/s"] = _numbers(table["images_per_second"], ".0f")
    return _without_empty(columns)


def _other_parents(table: pd.DataFrame) -> bool:
    """Whether any variant is compared with another one than the step before it."""
    paper = PaperPath()
    pairs = zip(table["variant"], table["parent"], strict=True)
    return any(not pd.isna(parent) and parent != paper.parent(variant, ()) for variant, parent in pairs)


def paper_cells(table: pd.DataFrame) -> Cells:
    """The gaps next to the paper's, with the verdict on each."""
    table = table[table["paper_delta"].notna() & table["delta"].notna()]
    columns = {
        "regime": list(table["regime"]) if table["regime"].nunique() > 1 else [""] * len(table),
        "variant": list(table["variant"]),
        "Δ": gap_cells(table),
        "paper Δ": _numbers(table["paper_delta"], "+.2f"),
        "verdict": list(table["verdict"]),
    }
    return _without_empty(columns)


def grouped_cells(table: pd.DataFrame) -> Cells:
    """The table of ``select.grouped``."""
    headers = {
        "top1": "mean top-1 (%)",
        "top1_std": "std of runs",
        "top1_min": "lowest",
        "top1_max": "highest",
    }
    columns = {str(name): [*map(_field, table[name])] for name in table if name not in headers}
    return _without_empty(columns | {header: _numbers(table[name]) for name, header in headers.items()})


def notes(table: pd.DataFrame, test: GapTest, cautions: Sequence[str] = ()) -> list[str]:
    """How to read a table whose gaps were tested like this, and the cautions."""
    lines = ["top-1: after the last epoch, mean over n seeds ± standard deviation, with the mean's 95 % interval"]
    if (table["n"] <= 1).all():
        lines = ["top-1: after the last epoch; one seed each, so there is no interval and no test: gaps may be noise"]
    if (table["n"] == 0).all():
        lines = ["no run has finished, so there is no accuracy yet"]
    if table["delta"].notna().any():
        against = "the variant named" if _other_parents(table) else "the step before"
        lines.append(f"Δ: to {against}{', paired by seed where seeds are shared' * test.paired}")
        if table["delta_p"].notna().any():
            lines += _test_notes(table, test)
        if table["sequential"].any():
            lines.append(
                f"{table['sequential'].sum()} gaps of until=decided, whose seeds were chosen by results: tested "
                "sequentially; their p-values and intervals hold for all of them together, whenever training stopped"
            )
    lines += [f"caution: {caution}" for caution in cautions]
    if unfinished := int(table["unfinished"].sum()):
        lines.append(f"caution: {unfinished} unfinished run{'s' * (unfinished != 1)} not included in the means")
    return lines


def _test_notes(table: pd.DataFrame, test: GapTest) -> list[str]:
    """How the gaps of ``table`` were tested."""
    tested = table["delta_p"].notna()
    declared = tested & table["declared"].astype(bool)
    kind = (
        "paired t-tests, r: correlation over shared seeds" if test.paired else "Welch's tests with moderated variances"
    )
    method = "Holm's method" if test.correction == "holm" else "Benjamini and Hochberg's method, for exploration"
    lines = [f"p: of {tested.sum()} {kind}; corrected by {method}"]
    if not declared.equals(tested):
        lines[-1] += f", the {declared.sum()} that the plan declares among themselves, the others among all"
    if test.equivalence is not None:
        lines.append(f"equal: within ± {test.equivalence:g} percentage points, by two one-sided tests")
    return [
        *lines,
        "more seeds: of each of the two, to resolve this gap with power 0.8 (range: for the variance's interval)",
    ]


def _without_empty(columns: dict[str, list[str]]) -> Cells:
    kept = {name: cells for name, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def _seeds(best: float, low: float, high: float) -> str:
    """How many more seeds, with the range for the uncertain variance."""
    if pd.isna(best):
        return ""
    words = [f"{n:.0f}".replace("inf", "> 1000") for n in (best, low, high)]
    return words[0] if low == high else f"{words[0]} ({words[1]} to {words[2]})"


def gap_cells(table: pd.DataFrame) -> list[str]:
    """Gaps, rounded by half of their 95 % intervals."""
    places = map(decimals, (table["delta_high"] - table["delta_low"]) / 2)
    return [number(gap, f"+.{digits}f") for gap, digits in zip(table["delta"], places, strict=True)]


def _intervals(table: pd.DataFrame, name: str, sign: str = "") -> list[str]:
    return [interval(*ends, sign) for ends in zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)]


def _numbers(values: pd.Series, form: str = ".2f") -> list[str]:
    return [number(value, form) for value in values]


def _field(value: Any) -> str:
    """A field as it was logged: pandas turns whole numbers into floats if some are missing."""
    return "-" if pd.isna(value) else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
