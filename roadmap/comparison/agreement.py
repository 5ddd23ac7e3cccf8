"""Agreement with the paper: each step's gap, and the order and direction of the steps of a regime."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from roadmap.paper.published import SCALED_FROM, published_steps
from roadmap.statistics.correction import ALPHA

MIN_STEPS = 4  # fewest steps whose order is compared
CLOSE = 0.8  # lowest rank correlation, and share of equal signs, that count as agreement
VERDICTS = {
    "agrees": "orders the steps much as the paper does on ImageNet",
    "partly agrees": "orders the steps partly as the paper does on ImageNet: trust large gaps only",
    "no evidence of agreement": "does not order the steps as the paper does on ImageNet: its gaps say nothing about "
    "ImageNet",
}


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
