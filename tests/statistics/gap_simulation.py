"""Error rates, coverage and power of the tests of gaps, simulated on the standard deviations of real studies.

``python -m tests.statistics.gap_simulation`` prints the tables of docs/statistics.md.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special

from roadmap.paper.published import published_steps
from roadmap.runs.reading import load_runs
from roadmap.statistics.correction import holm
from roadmap.statistics.moderation import moderated
from roadmap.statistics.power import gap_error
from roadmap.steps.path_file import paper_parents

PARENTS = paper_parents()
STEPS = [*PARENTS]
# positions in STEPS of the two groups of each gap: a step and the one before it
PAIRS = np.array([(STEPS.index(step), STEPS.index(parent)) for step, parent in PARENTS.items() if parent])
KINDS = ("moderated", "paired", "Welch", "pooled")
DIGITS = Path(__file__).parents[2] / "runs/studies/nano-digits-robustness.runs.jsonl.gz"
SEEDS = {
    "2": np.full(17, 2),
    "3": np.full(17, 3),
    "5": np.full(17, 5),
    "10": np.full(17, 10),
    "2 to 5": 2 + np.arange(17) % 4,
}


@dataclass(frozen=True)
class Result:
    """Per study and gap: the p-value, whether the interval holds the true gap, and the estimated gap."""

    p: np.ndarray
    covered: np.ndarray
    delta: np.ndarray

    @property
    def significant(self) -> np.ndarray:
        return holm(self.p, self.p.shape[-1]) < 0.05

    @property
    def family_wise_error(self) -> float:
        """The share of studies with any significant gap, where no gap is real."""
        return float(self.significant.any(axis=-1).mean())


def paper_stds() -> np.ndarray:
    """Table 10's standard deviations; ResNet-50's, which is not published, as their mean."""
    stds = np.array([published_steps("tiny")[step].top1_std or np.nan for step in STEPS], float)
    return np.where(np.isnan(stds), np.nanmean(stds), stds)


def paper_gaps() -> np.ndarray:
    """Table 10's gaps."""
    top1 = np.array([published_steps("tiny")[step].top1 for step in STEPS])
    return top1[PAIRS[:, 0]] - top1[PAIRS[:, 1]]


@cache
def digits_stds() -> np.ndarray:
    """Standard deviations of the 17 steps of nano on digits over five seeds each."""
    runs = load_runs(DIGITS)
    return runs[runs["status"] == "finished"].groupby("variant")["top1"].std().loc[STEPS].to_numpy()


STDS = {  # of the 17 steps
    "Table 10's": paper_stds,
    "digits'": digits_stds,
    "0.22 to 1.60": lambda: np.geomspace(0.22, 1.6, 17),
    "equal": lambda: np.ones(17),
}


def draw(rng: np.random.Generator, studies: int, stds: np.ndarray, seeds: int, correlation: float = 0.0) -> np.ndarray:
    """Return accuracies without gaps, (studies, groups, seeds), correlated between groups at the same seed.

    ``stds`` are (groups,) or (studies, groups).
    """
    own = rng.standard_normal((studies, stds.shape[-1], seeds))
    of_seed = rng.standard_normal((studies, 1, seeds)) if correlation else 0.0
    return (np.sqrt(1 - correlation) * own + np.sqrt(correlation) * of_seed) * stds[..., None]


def simulated(
    values: np.ndarray, n: np.ndarray, kind: str, gaps: np.ndarray | float = 0.0, pairs: np.ndarray = PAIRS
) -> Result:
    """Test the gaps ``pairs`` of ``values``, (studies, groups, seeds), of which the first ``n`` of each group are used.

    ``gaps`` are added to the differences.
    """
    first, second = pairs.T
    used = np.arange(values.shape[-1]) < n[:, None]
    mean = np.where(used, values, 0).sum(axis=-1) / n
    variance = np.where(used, (values - mean[..., None]) ** 2, 0).sum(axis=-1) / (n - 1)
    delta, df = mean[:, first] - mean[:, second], n - 1
    if kind == "paired":
        both = n[pairs].min(axis=1)
        shared = np.arange(values.shape[-1]) < both[:, None]
        difference = np.where(shared, values[:, first] - values[:, second], 0)
        delta = difference.sum(axis=-1) / both
        squares = np.where(shared, (difference - delta[..., None]) ** 2, 0).sum(axis=-1)
        error, gap_df = np.sqrt(squares / (both - 1) / both), np.broadcast_to(both - 1.0, delta.shape)
    else:
        dfs = np.broadcast_to(df.astype(float), variance.shape)
        if kind == "moderated":
            variance, dfs = moderated(variance, df)
        elif kind == "pooled":
            variance = np.broadcast_to((variance @ df / df.sum())[:, None], variance.shape)
        error, gap_df = gap_error(variance[:, pairs], n[pairs], dfs[:, pairs], df.sum())
        if kind == "pooled":
            gap_df = np.full(delta.shape, float(df.sum()))
    p = 2 * special.stdtr(gap_df, -np.abs(delta + gaps) / error)
    return Result(p, np.abs(delta) < special.stdtrit(gap_df, 0.975) * error, delta + gaps)


def main(studies: int = 20_000) -> None:
    rng = np.random.default_rng(0)
    print("| standard deviations | seeds | " + " | ".join(KINDS) + " |\n|---|---|" + "---|" * len(KINDS))
    for name, stds in STDS.items():
        for seeds, n in SEEDS.items():
            values = draw(rng, studies, stds(), n.max())
            found = [simulated(values, n, kind) for kind in KINDS]
            cells = [f"{100 * each.family_wise_error:.1f}, {100 * each.covered.mean():.1f}" for each in found]
            print(f"| {name} | {seeds} | " + " | ".join(cells) + " |", flush=True)
    print("\n| seeds | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
    gaps = paper_gaps()
    for seeds, n in SEEDS.items():
        values = draw(rng, studies, paper_stds(), n.max())
        found = [simulated(values, n, kind, gaps) for kind in KINDS]
        right = [(each.significant & (np.sign(each.delta) == np.sign(gaps))).sum(axis=1).mean() for each in found]
        at_03 = [(simulated(values, n, kind, 0.3).p < 0.05 / len(PAIRS)).mean() for kind in KINDS]
        cells = [f"{count:.1f}, {100 * share:.0f} %" for count, share in zip(right, at_03, strict=True)]
        print(f"| {seeds} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
