"""How far a roadmap of ours agrees with the paper's: each step's gap, and the order of all steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadmap.comparison.statistics import ALPHA
from roadmap.paper.published import SCALED_FROM, published_steps

FEWEST = 4  # steps that make an order worth comparing
CLOSE = 0.8  # rank correlation from which an order is called the paper's


def with_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The table of ``groups.summarise`` with ``paper_top1``, ``paper_delta`` and a ``verdict`` on each step's gap.

    Percent. A regime that the paper does not have is set beside the one it was scaled from. NaN and "" for designs
    that are no published step.
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
    """What a step's gap says in a few words, from its row of ``statistics.gaps`` and its ``paper_delta``."""
    if pd.isna(row["delta"]):
        return ""
    if pd.isna(row["delta_p_holm"]):
        return "one seed: no verdict" if row["delta_n"] == 1 else "seeds do not vary: no verdict"
    told, paper = row["delta_p_holm"] < ALPHA, row["paper_delta"]
    noise = f"{'outside' if told else 'inside'} seed noise"
    if pd.isna(paper):
        return noise
    if told and paper != 0:
        noise += ", as the paper" if (row["delta"] > 0) == (paper > 0) else ", against the paper"
    inside = row["delta_low"] <= paper <= row["delta_high"]
    return f"{noise}; the paper's {paper:+.2f} {'fits' if inside else 'does not fit'}"


@dataclass(frozen=True)
class Agreement:
    """Our steps against the paper's, of one regime on one data set.

    ``spearman`` and ``kendall`` are the rank correlations of the steps' mean top-1, with their p-values;
    ``seed_spearman`` the least and the greatest Spearman correlation of a single seed's accuracies, None for one seed.
    ``same_sign`` of ``gaps`` steps move the way they do in the paper (steps that move in neither are left out), with
    the p-value of so many by chance; ``told`` of the gaps are outside our seed noise, ``told_same`` of them as the
    paper's.
    """

    regime: str
    data: str
    image_size: int
    epochs: int
    seeds: int
    steps: int
    spearman: float
    spearman_p: float
    seed_spearman: tuple[float, float] | None
    kendall: float
    kendall_p: float
    gaps: int
    same_sign: int
    sign_p: float
    told: int
    told_same: int

    def sentences(self) -> list[str]:
        """The agreement in words: how far to trust it, and why."""
        order = f"order of {self.steps} steps: Spearman {self.spearman:+.2f} (p {self.spearman_p:.2g})"
        if self.seed_spearman:
            order += ", single seeds {:+.2f} to {:+.2f}".format(*self.seed_spearman)
        lines = [self.trust, f"{order}, Kendall {self.kendall:+.2f} (p {self.kendall_p:.2g}) against the paper's top-1"]
        if self.gaps:
            way = f"direction: {self.same_sign} of {self.gaps} changes go the paper's way (p {self.sign_p:.2g})"
            noise = (
                f"{self.told} of them are outside the noise of {self.seeds} seeds, {self.told_same} of these its way"
            )
            lines.append(f"{way}; {noise if self.seeds > 1 else 'one seed: no telling which are noise'}")
        return lines

    @property
    def trust(self) -> str:
        """How far this setting stands for the paper's."""
        setting = f"{self.regime} on {self.data} at {self.image_size} pixels, {self.epochs} epochs,"
        if self.spearman >= CLOSE and self.same_sign >= CLOSE * self.gaps:
            return f"{setting} orders the steps much as the paper does on ImageNet"
        if self.spearman_p < ALPHA and self.spearman > 0:
            return f"{setting} orders the steps partly as the paper does on ImageNet: trust large gaps only"
        return (
            f"{setting} does not order the steps as the paper does on ImageNet: its gaps do not stand for the paper's"
        )


def agreements(runs: pd.DataFrame, table: pd.DataFrame) -> list[Agreement]:
    """One for each regime and data set of which four or more published steps were run; ``table`` of ``with_paper``."""
    found = []
    steps = table[table["paper_top1"].notna() & (table["n"] > 0)]
    for (regime, data), mine in steps.groupby(["regime", "data"], sort=False):
        if len(mine) >= FEWEST and mine["variant"].is_unique and mine["top1"].nunique() > 1:
            found.append(_agreement(runs[(runs["regime"] == regime) & (runs["data"] == data)], mine))
    return found


def _agreement(runs: pd.DataFrame, steps: pd.DataFrame) -> Agreement:
    from scipy import stats

    spearman, kendall = (test(steps["top1"], steps["paper_top1"]) for test in (stats.spearmanr, stats.kendalltau))
    gaps = steps[steps["delta"].notna() & steps["paper_delta"].notna()]
    gaps = gaps[(gaps["delta"] != 0) & (gaps["paper_delta"] != 0)]
    same = np.sign(gaps["delta"]) == np.sign(gaps["paper_delta"])
    told = gaps["delta_p_holm"] < ALPHA
    first = steps.iloc[-1]
    return Agreement(
        regime=str(first["regime"]),
        data=str(first["data"]),
        image_size=int(first["image_size"]),
        epochs=int(first["epochs"]),
        seeds=int(steps["n"].min()),
        steps=len(steps),
        spearman=float(spearman.statistic),
        spearman_p=float(spearman.pvalue),
        seed_spearman=_of_single_seeds(runs, steps),
        kendall=float(kendall.statistic),
        kendall_p=float(kendall.pvalue),
        gaps=len(gaps),
        same_sign=int(same.sum()),
        sign_p=float(stats.binomtest(int(same.sum()), len(gaps)).pvalue) if len(gaps) else float("nan"),
        told=int(told.sum()),
        told_same=int((told & same).sum()),
    )


def _of_single_seeds(runs: pd.DataFrame, steps: pd.DataFrame) -> tuple[float, float] | None:
    """The range of the rank correlation over the seeds that every step has."""
    shared = set.intersection(*map(set, steps["seeds"]))
    if len(shared) < 2:
        return None
    finished = runs[(runs["status"] == "finished") & runs["variant"].isin(steps["variant"])]
    by_seed = finished.pivot_table(index="variant", columns="seed", values="top1").loc[steps["variant"], sorted(shared)]
    # Spearman's is Pearson's of the ranks, ties sharing theirs
    paper = steps.set_index("variant")["paper_top1"].rank()
    each = by_seed.rank().corrwith(paper)
    return float(each.min()), float(each.max())
