"""Error rates and power of ``until=decided``, simulated with its own rule of allocation.

``python -m tests.statistics.until_simulation`` prints the tables of docs/statistics.md.
"""

from dataclasses import dataclass

import numpy as np

from roadmap.statistics.sequential import MOST_SEEDS, SequentialGaps
from tests.statistics.gap_simulation import PAIRS, STDS, STEPS, draw, paper_gaps, paper_stds, simulated

START = 3


@dataclass(frozen=True)
class Study:
    """One study at its end: runs spent and the gaps with their decisions."""

    runs: int
    gaps: SequentialGaps


def until_decided(
    accuracies: np.ndarray, budget: int, equivalence: float | None = None, start: int = START, at_a_time: int = 1
) -> Study:
    """Give seeds by the rule of ``roadmap run``; ``accuracies`` (steps, seeds) are those that it would find."""
    n = np.full(len(accuracies), start)
    while True:
        seen = np.arange(n.max()) < n[:, None]
        gaps = SequentialGaps(np.where(seen, accuracies[:, : n.max()], np.nan), PAIRS, start, equivalence)
        chosen = gaps.next_steps(at_a_time, budget - int(n.sum()))
        if not chosen:
            return Study(int(n.sum()), gaps)
        n[chosen] += 1


def error_of_any_rule(values: np.ndarray, start: int = START) -> float:
    """The share of studies without real gaps that have a significant one at any number of seeds of ``values``."""
    return float((SequentialGaps(values, PAIRS, start).corrected < 0.05).any(axis=-1).mean())


def errors_of_the_rule(
    rng: np.random.Generator, studies: int, stds: np.ndarray, budget: int, bound: float, gap: float = 0.0
) -> tuple[float, float]:
    """The share of studies with a wrong decision, and the mean number of decided gaps.

    ``gap`` is the true gap of every step; one of ``bound`` is the hardest for the test of equality.
    """
    means = path_means(np.full(len(PAIRS), gap))
    found = [
        until_decided(values + means[:, None], budget, bound).gaps for values in draw(rng, studies, stds, MOST_SEEDS)
    ]
    wrong = [each.corrected < 0.05 if gap == 0 else each.equal_corrected < 0.05 for each in found]
    return float(np.mean([each.any() for each in wrong])), float(np.mean([each.decided.sum() for each in found]))


def path_means(gaps: np.ndarray) -> np.ndarray:
    """The accuracies of the steps with these gaps, from 0."""
    means = np.zeros(len(STEPS))
    for (step, parent), gap in zip(PAIRS, gaps, strict=True):
        means[step] = means[parent] + gap
    return means


def main(studies: int = 300) -> None:
    rng = np.random.default_rng(0)
    print("| standard deviations | any rule, start 2 | 3 | 5 | the rule, no gaps | the rule, gaps of ± bound |")
    print("|---|---|---|---|---|---|")
    for name, stds in STDS.items():
        shares = [
            np.mean([error_of_any_rule(draw(rng, 1000, stds(), MOST_SEEDS), start) for _ in range(5)])
            for start in (2, 3, 5)
        ]
        bound = 1.5 * float(np.median(stds()))
        of_rule = [errors_of_the_rule(rng, studies, stds(), 150, bound, gap) for gap in (0.0, bound)]
        cells = [f"{100 * share:.1f}" for share in (*shares, *[error for error, _ in of_rule])]
        decided = f" ({of_rule[0][1]:.1f} decided)"
        print(f"| {name} | {' | '.join(cells[:4])}{decided} | {cells[4]} |", flush=True)
    print("\n| runs | until=decided | fixed seeds |\n|---|---|---|")
    means = path_means(paper_gaps())
    for seeds in (3, 4, 5, 7, 10):
        studied = [
            until_decided(values + means[:, None], 17 * seeds)
            for values in draw(rng, studies // 3, paper_stds(), MOST_SEEDS)
        ]
        right = np.mean([(_right(study.gaps)).sum() for study in studied])
        fixed = simulated(draw(rng, 20_000, paper_stds(), seeds), np.full(17, seeds), "moderated", paper_gaps())
        of_fixed = (fixed.significant & (np.sign(fixed.delta) == np.sign(paper_gaps()))).sum(axis=1).mean()
        print(f"| {17 * seeds} | {right:.1f} | {of_fixed:.1f} |", flush=True)


def _right(gaps: SequentialGaps) -> np.ndarray:
    return (gaps.corrected < 0.05) & (np.sign(gaps.delta) == np.sign(paper_gaps()))


if __name__ == "__main__":
    main()
