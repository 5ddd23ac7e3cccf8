"""Compare logged runs with each other and with the paper in one table, also as text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from roadmap.comparison.groups import Baseline, PaperPath, summarise
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed, mean_and_std, number, printable, sides
from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.runs.identity import Difference, Parents, cautions, not_comparable, unequal_conditions
from roadmap.runs.reading import Folders, load_runs
from roadmap.statistics.gaps import ALPHA

MIN_STEPS = 4  # fewest steps whose order is compared
CLOSE = 0.8  # lowest rank correlation, and share of equal signs, that count as agreement
VERDICTS = {
    "agrees": "orders the steps much as the paper does on ImageNet",
    "partly agrees": "orders the steps partly as the paper does on ImageNet: trust large gaps only",
    "no evidence of agreement": "does not order the steps as the paper does on ImageNet: its gaps say nothing about "
    "ImageNet",
}
# Fields that are printed once above the table if all groups share them, and as columns otherwise.
SHARED = ("regime", "recipe", "data", "epochs", "batch_size", "image_size", "precision")
LATEX = {"±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$", "×": r"$\times$", "–": "--", "−": "$-$"}

Cells = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class Agreement:
    """The steps of one regime on one data set, compared with the paper's.

    ``spearman`` is the rank correlation of the steps' mean top-1 with the paper's, with its p-value. ``same_sign`` of
    ``gaps`` have the paper's sign (gaps of 0 are excluded), with the p-value ``sign_p`` of a binomial test.
    ``significant`` gaps are outside seed noise; ``significant_same`` of these have the paper's sign.
    """

    setting: str
    seeds: int
    steps: int
    spearman: float
    spearman_p: float
    gaps: int
    same_sign: int
    sign_p: float
    significant: int
    significant_same: int

    def sentences(self) -> list[str]:
        """The verdict, and the numbers it rests on."""
        order = f"order of {self.steps} steps: Spearman {self.spearman:+.2f} (p {self.spearman_p:.2g})"
        lines = [f"{self.setting}, {VERDICTS[self.verdict]}", f"{order} against the paper's top-1"]
        if self.gaps:
            signs = f"direction: {self.same_sign} of {self.gaps} gaps have the paper's sign (p {self.sign_p:.2g})"
            noise = f"{self.significant} of them are outside the noise of {self.seeds} seeds"
            noise += f", {self.significant_same} of these with the paper's sign"
            lines.append(f"{signs}; {noise if self.seeds > 1 else 'one seed: any of them may be noise'}")
        return lines

    @property
    def verdict(self) -> str:
        """``agrees``, ``partly agrees`` or ``no evidence of agreement``."""
        if self.spearman >= CLOSE and self.same_sign >= CLOSE * self.gaps:
            return "agrees"
        return "partly agrees" if self.spearman_p < ALPHA and self.spearman > 0 else "no evidence of agreement"


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row per group of seeds, with the paper's values.

    ``unequal`` holds the differences that make the comparison unfair (empty unless forced), ``cautions`` sentences on
    harmless differences, and ``agreements`` the agreement with the paper for each regime and data set.
    """

    table: pd.DataFrame
    unequal: list[Difference]
    cautions: list[str]
    agreements: list[Agreement]


def compare(runs: Folders | pd.DataFrame, path: Parents | None = None, *, force: bool = False) -> Comparison:
    """Compare runs, given as folders or as a table of ``load_runs``, averaged over seeds.

    Accuracies are those after the last epoch, in percent; the columns are described in ``groups.summarise``,
    ``statistics.gaps`` and ``with_paper``. ``path`` says which variant each one is compared with, by default the step
    before on the paper's path. Raises RequestError if there is no run or no such baseline and, unless forced, if
    finished runs differ in data, epochs, batch size, image size, pretrained weights or recipe. Two recipes are accepted
    if a step of the path leads from one to the other.
    """
    runs = runs if isinstance(runs, pd.DataFrame) else load_runs(runs)
    path = path or PaperPath()
    if not len(runs):
        raise RequestError("there is no run to compare")
    known = sorted(set(runs["variant"]))
    if isinstance(path, Baseline) and path.variant not in known:
        raise RequestError(f"no variant '{path.variant}' among these runs (choose {listed(known)})")
    unequal = check_equal(runs, path, force=force)
    table = with_paper(summarise(runs, path))
    found = cautions(runs[runs["status"] == "finished"])
    return Comparison(table, unequal, found, [] if unequal else agreements(table))


def check_equal(runs: pd.DataFrame, path: Parents, *, force: bool) -> list[Difference]:
    """The differences that make gaps between finished runs unfair; RequestError if there are any, unless forced."""
    unequal = unequal_conditions(runs, path)
    if unequal and not force:
        raise not_comparable(unequal, ", or compare them anyway with --force")
    return unequal


def with_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The table of ``groups.summarise`` with ``paper_top1``, ``paper_delta`` and a ``verdict`` on each step's gap.

    Accuracies are in percent. A regime that is not in the paper is compared with the one it was scaled from. Designs
    that are not published steps have NaN and "".
    """
    rows = []
    for row in table.to_dict("records"):
        published = published_steps(SCALED_FROM.get(row["regime"], row["regime"]))
        own, parent = published.get(row["variant"]), published.get(row["parent"] or "")
        delta = round(own.top1 - parent.top1, 2) if own and parent else float("nan")
        verdict = step_verdict(row | {"paper_delta": delta})
        rows.append({"paper_top1": own.top1 if own else float("nan"), "paper_delta": delta, "verdict": verdict})
    return pd.concat([table, pd.DataFrame(rows, columns=["paper_top1", "paper_delta", "verdict"])], axis=1)


def step_verdict(row: Mapping[Any, Any]) -> str:
    """Whether a step's gap is outside seed noise and agrees with the paper; ``row`` is of ``statistics.gaps``."""
    if pd.isna(row["delta"]):
        return ""
    if pd.isna(row["delta_p_holm"]):
        return "one seed: no verdict" if row["delta_n"] == 1 else "seeds do not vary: no verdict"
    significant, paper = row["delta_p_holm"] < ALPHA, row["paper_delta"]
    noise = f"{'outside' if significant else 'inside'} seed noise"
    if pd.isna(paper):
        return noise
    if significant and paper != 0:
        noise += ", as the paper" if (row["delta"] > 0) == (paper > 0) else ", against the paper"
    inside = row["delta_low"] <= paper <= row["delta_high"]
    return f"{noise}; the paper's {paper:+.2f} {'fits' if inside else 'does not fit'}"


def agreements(table: pd.DataFrame) -> list[Agreement]:
    """One for each regime and data set with at least four published steps in ``table``, the table of ``with_paper``."""
    from scipy import stats

    found = []
    published = table[table["paper_top1"].notna() & (table["n"] > 0)]
    for (regime, data), steps in published.groupby(["regime", "data"], sort=False):
        if len(steps) < MIN_STEPS or not steps["variant"].is_unique or steps["top1"].nunique() == 1:
            continue
        spearman = stats.spearmanr(steps["top1"], steps["paper_top1"])
        deltas = steps[["delta", "paper_delta"]]
        gaps = steps[(deltas.notna() & (deltas != 0)).all(axis=1)]
        same = (gaps["delta"] > 0) == (gaps["paper_delta"] > 0)
        significant = gaps["delta_p_holm"] < ALPHA
        last = steps.iloc[-1]
        found.append(
            Agreement(
                setting=f"{regime} on {data} at {last['image_size']:g} pixels, {last['epochs']:g} epochs",
                seeds=int(steps["n"].min()),
                steps=len(steps),
                spearman=float(spearman.statistic),
                spearman_p=float(spearman.pvalue),
                gaps=len(gaps),
                same_sign=int(same.sum()),
                sign_p=float(stats.binomtest(int(same.sum()), len(gaps)).pvalue) if len(gaps) else float("nan"),
                significant=int(significant.sum()),
                significant_same=int((significant & same).sum()),
            )
        )
    return found


def text(comparison: Comparison) -> str:
    """The whole comparison for a terminal."""
    table = comparison.table
    parts = [shared(table), aligned(*accuracy_cells(table)), *notes(comparison)]
    if (table["paper_delta"].notna() & table["delta"].notna()).any():
        parts += ["\nagainst the paper", aligned(*paper_cells(table))]
    parts += [sentence for agreement in comparison.agreements for sentence in agreement.sentences()]
    return "\n".join(part for part in parts if part)


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
    columns["95 %"] = _intervals(table, "top1", ".2f")
    if table["delta"].notna().any():
        if _other_parents(table):
            columns["against"] = [number(parent, "") for parent in table["parent"]]
        columns["Δ"] = _numbers(table["delta"], "+.2f")
        columns["95 % of Δ"] = _intervals(table, "delta", "+.2f")
        columns["p (Holm)"] = [
            "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in table["delta_p_holm"]
        ]
        columns["more seeds"] = ["" if pd.isna(n) else f"{n:.0f}".replace("inf", "> 1000") for n in table["more_seeds"]]
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
        "Δ": _numbers(table["delta"], "+.2f"),
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


def notes(comparison: Comparison) -> list[str]:
    """How to read the table, and the cautions."""
    table = comparison.table
    lines = ["top-1: after the last epoch, mean over n seeds ± standard deviation, with the mean's 95 % interval"]
    if (table["n"] <= 1).all():
        lines = ["top-1: after the last epoch; one seed each, so there is no interval and no test: gaps may be noise"]
    if (table["n"] == 0).all():
        lines = ["no run has finished, so there is no accuracy yet"]
    if table["delta"].notna().any():
        against = "the variant named" if _other_parents(table) else "the step before"
        tested = int(table["delta_p"].notna().sum())
        lines.append(f"Δ: to {against}, paired by seed where seeds are shared")
        if tested:
            lines[-1] += f"; p: of {tested} t-tests, corrected by Holm's method"
            lines[-1] += "; more seeds: to resolve this gap with power 0.8"
    lines += [f"caution: {caution}" for caution in comparison.cautions]
    if unfinished := int(table["unfinished"].sum()):
        lines.append(f"caution: {unfinished} unfinished run{'s' * (unfinished != 1)} not included in the means")
    return lines


def _without_empty(columns: dict[str, list[str]]) -> Cells:
    kept = {name: cells for name, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def _intervals(table: pd.DataFrame, name: str, form: str) -> list[str]:
    ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["" if pd.isna(low) else f"{low:{form}} to {high:{form}}" for low, high in ends]


def _numbers(values: pd.Series, form: str = ".2f") -> list[str]:
    return [number(value, form) for value in values]


def _field(value: Any) -> str:
    """A field as it was logged: pandas turns whole numbers into floats if some are missing."""
    return "-" if pd.isna(value) else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
