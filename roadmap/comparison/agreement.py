"""Agreement with the paper: of each step's gap, and of the gaps of a regime as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.statistics.correction import ALPHA
from roadmap.statistics.gap_correlation import Levels, gap_correlation, resolved
from roadmap.statistics.gaps import BETTER, CONFIDENCE, WORSE
from roadmap.statistics.power import gap_error
from roadmap.steps.path_file import paper_parents

MIN_GAPS = 4  # with fewer, no permutation test can reach 5 %
CLOSE = 0.8  # lowest correlation of gaps, and share of equal signs, that count as agreement
PAPER_SEEDS = 3  # of the rows of Table 10 with a standard deviation
VERDICTS = {
    "agrees": "its gaps are much as the paper's on ImageNet",
    "partly agrees": "trust large gaps only",
    "no evidence of agreement": "its gaps say nothing about ImageNet",
}
COLUMNS = ("paper_top1", "paper_delta", "paper_delta_se", "paper_resolved", "fits", "verdict")


@dataclass(frozen=True)
class Agreement:
    """The gaps of one regime on one data set, compared with the paper's.

    ``correlation`` is that of the ``gaps`` with the paper's, with the one-sided ``p`` and the interval ``low`` to
    ``high`` of ``gap_correlation``. Of the ``resolved`` gaps, those whose 95 % interval in the paper excludes 0,
    ``same_sign`` have the paper's sign. ``fitting`` of ``measured`` gaps fit: the 95 % interval of the difference
    from the paper's gap, with both errors, includes 0.
    """

    setting: str
    seeds: int
    gaps: int
    correlation: float
    p: float
    low: float
    high: float
    resolved: int
    same_sign: int
    measured: int
    fitting: int

    @property
    def verdict(self) -> str:
        """``agrees``, ``partly agrees`` or ``no evidence of agreement``."""
        if not self.p < ALPHA:
            return "no evidence of agreement"
        close = self.correlation >= CLOSE and self.same_sign >= CLOSE * self.resolved
        return "agrees" if close else "partly agrees"

    @property
    def headline(self) -> str:
        """The setting and the verdict."""
        return f"{self.setting}: {self.verdict} with the paper"

    def sentences(self) -> list[str]:
        """The verdict, and the numbers it rests on."""
        interval = f"95 % {self.low:+.2f} to {self.high:+.2f} over seeds, " if self.low == self.low else ""
        lines = [
            f"{self.headline}: {VERDICTS[self.verdict]}",
            f"correlation of {self.gaps} gaps with the paper's, weighted by both errors: {self.correlation:+.2f} "
            f"({interval}permutation p {self.p:.2g})",
            f"direction: {self.same_sign} of the {self.resolved} gaps that the paper resolves have its sign",
        ]
        if self.measured:
            lines.append(f"size: {self.fitting} of {self.measured} gaps fit the paper's within both errors")
        return lines


@cache
def paper_levels(regime: str) -> tuple[tuple[str, ...], Levels]:
    """Return the names of the published steps of a regime and their levels.

    Rows without a standard deviation count as one run with the pooled variance of the table, or of Table 10 if it
    prints none.
    """
    steps = {name: row for name, row in published_steps(regime).items() if name in paper_parents()}
    std = np.array([np.nan if row.top1_std is None else row.top1_std for row in steps.values()])
    levels = Levels.of(np.array([row.top1 for row in steps.values()]), std, np.where(np.isnan(std), 1, PAPER_SEEDS))
    if np.isnan(std).all() and steps:
        other = paper_levels("tiny")[1]  # its first row has the pooled variance
        levels = Levels(levels.mean, np.full(len(steps), other.variance[0]), levels.n, np.full(len(steps), other.df[0]))
    return tuple(steps), levels


def with_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The table of ``groups.summarise`` with the paper's values, and a ``verdict`` on each step's gap.

    ``paper_top1`` and ``paper_delta``, the gap to the same parent, with its standard error ``paper_delta_se``, are in
    percent; ``paper_resolved`` says whether the paper's own 95 % interval excludes 0; ``fits`` whether the 95 %
    interval of the difference of the two gaps, with both errors, includes 0. A regime that is not in the paper is
    compared with the one it was scaled from. Designs that are not published steps have NaN, None and "".
    """
    rows = [_paper_columns(row) for row in table.to_dict("records")]
    added = pd.DataFrame(rows, columns=[*COLUMNS])
    return pd.concat([table, added.astype({"paper_resolved": object, "fits": object})], axis=1)


def _paper_columns(row: Mapping[Any, Any]) -> dict[str, Any]:
    names, levels = paper_levels(SCALED_FROM.get(row["regime"], row["regime"]))
    columns: dict[str, Any] = {"paper_top1": np.nan, "paper_delta": np.nan, "paper_delta_se": np.nan}
    columns |= {"paper_resolved": None, "fits": None}
    if row["variant"] in names:
        columns["paper_top1"] = levels.mean[names.index(row["variant"])]
        if row["parent"] in names:
            edge = [names.index(row["variant"]), names.index(row["parent"])]
            delta = columns["paper_delta"] = round(float(levels.mean[edge] @ [1, -1]), 2)
            error, df = gap_error(levels.variance[edge], levels.n[edge], levels.df[edge])
            columns |= {"paper_delta_se": float(error), "paper_resolved": not _within(delta, error, df)}
            if not pd.isna(row["delta_se"]):
                both = np.array([row["delta_se"], error]) ** 2
                dfs = np.array([row["delta_df"], df])
                columns["fits"] = _within(row["delta"] - delta, *gap_error(both, np.ones(2), dfs))
    return columns | {"verdict": step_verdict({**row, **columns})}


def _within(gap: float, error: Any, df: Any) -> bool:
    """Whether the 95 % interval of a gap includes 0."""
    from scipy.special import stdtrit

    return bool(abs(gap) <= stdtrit(df, (1 + CONFIDENCE) / 2) * error)


def step_verdict(row: Mapping[Any, Any]) -> str:
    """Return a step's outcome and whether it agrees with the paper; ``row`` is of ``with_paper``."""
    if pd.isna(row["delta"]):
        return ""
    if not row["outcome"]:
        return "one seed: no verdict" if row["delta_n"] == 1 else "seeds do not vary: no verdict"
    outcome, paper = row["outcome"], row["paper_delta"]
    if pd.isna(paper):
        return str(outcome)
    if outcome in (BETTER, WORSE) and row["paper_resolved"]:
        outcome += ", as the paper" if (outcome == BETTER) == (paper > 0) else ", against the paper"
    return f"{outcome}; the paper's {paper:+.2f} {'fits' if row['fits'] else 'does not fit'}"


def agreements(table: pd.DataFrame) -> list[Agreement]:
    """One for each regime and data set with at least four gaps between published steps of ``table``.

    ``table`` is that of ``with_paper``. The gaps are those of the paper's path, each to the nearest step before it that
    has runs, whatever the table compares each step with.
    """
    published = table[table["paper_top1"].notna() & (table["n"] > 0)]
    groups = published.groupby(["regime", "data"], sort=False)
    found = [_agreement(f"{regime} on {data}", str(regime), steps) for (regime, data), steps in groups]
    return [each for each in found if each is not None]


def _agreement(name: str, regime: str, steps: pd.DataFrame) -> Agreement | None:
    variants = [*steps["variant"]]
    edges = path_edges(variants)
    if len(set(variants)) < len(variants) or len(edges) < MIN_GAPS:
        return None
    ours = Levels.of(*(steps[column].to_numpy(float) for column in ("top1", "top1_std", "n")))
    names, whole = paper_levels(SCALED_FROM.get(regime, regime))
    paper = whole.at([names.index(variant) for variant in variants])
    gaps, published = (levels.mean[edges] @ [1, -1] for levels in (ours, paper))
    if np.ptp(gaps) < 1e-9:
        return None
    correlation = gap_correlation(ours, paper, edges)
    clear = resolved(paper, edges)
    fits = steps["fits"][steps["fits"].notna()]
    last = steps.iloc[-1]
    return Agreement(
        setting=f"{name} at {last['image_size']:g} pixels, {last['epochs']:g} epochs",
        seeds=int(steps["n"].min()),
        gaps=len(edges),
        correlation=correlation.r,
        p=correlation.p,
        low=correlation.low,
        high=correlation.high,
        resolved=int(clear.sum()),
        same_sign=int((np.sign(gaps) == np.sign(published))[clear].sum()),
        measured=len(fits),
        fitting=int(fits.sum()),
    )


def caption(found: list[Agreement]) -> str:
    """Return the verdict for the caption of a figure; empty unless there is one."""
    return f"Gaps of {found[0].setting}: {found[0].verdict} with the paper." if len(found) == 1 else ""


def path_edges(variants: list[str]) -> np.ndarray:
    """Return the indices of each step and the nearest one before it on the paper's path, (gaps, 2)."""
    parents, edges = paper_parents(), []
    for place, variant in enumerate(variants):
        before = parents[variant]
        while before is not None and before not in variants:
            before = parents[before]
        if before is not None:
            edges.append((place, variants.index(before)))
    return np.array(edges, int).reshape(-1, 2)
