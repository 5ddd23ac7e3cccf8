"""How often made-up studies agree with the paper: `python -m tests.comparison.agreement_simulation` prints a table."""

from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
import pandas as pd

from roadmap.comparison.agreement import agreements, paper_levels, path_edges

REGIME = "tiny"
NAMES, PAPER = paper_levels(REGIME)
EDGES = path_edges([*NAMES])
GAPS = PAPER.mean[EDGES] @ [1, -1]
SPREAD = GAPS.std()

Source = np.random.Generator

# the true gaps of a study, in the order of EDGES
NULLS: dict[str, Callable[[Source], np.ndarray]] = {
    "random gaps, normal": lambda source: source.normal(0, SPREAD, len(GAPS)),
    "random gaps, heavy-tailed (t, 2 df)": lambda source: SPREAD * source.standard_t(2, len(GAPS)),
    "random gaps, all positive": lambda source: source.exponential(SPREAD, len(GAPS)),
    "the paper's gaps, shuffled": lambda source: source.permutation(GAPS),
    "no gaps: noise only": lambda source: np.zeros(len(GAPS)),
}
COPIES: dict[str, Callable[[Source], np.ndarray]] = {
    "the paper's gaps": lambda source: GAPS,
    "half the paper's gaps": lambda source: GAPS / 2,
    "the paper's gaps ± half their spread": lambda source: GAPS + source.normal(0, SPREAD / 2, len(GAPS)),
    "the paper's gaps ± their spread": lambda source: GAPS + source.normal(0, SPREAD, len(GAPS)),
}


def study(gaps: np.ndarray, stds: np.ndarray, seeds: int, source: Source) -> pd.DataFrame:
    """A table as ``agreements`` takes it, of accuracies with these true gaps and standard deviations."""
    levels = np.full(len(NAMES), 80.0)
    for (step, parent), gap in zip(EDGES, gaps, strict=True):
        levels[step] = levels[parent] + gap
    runs = levels[:, None] + source.normal(0, 1, (len(NAMES), seeds)) * stds[:, None]
    return pd.DataFrame(
        {"variant": NAMES, "regime": REGIME, "data": "digits", "image_size": 32, "epochs": 30, "n": seeds}
        | {"top1": runs.mean(axis=1), "top1_std": runs.std(axis=1, ddof=1) if seeds > 1 else np.nan}
        | {"paper_top1": PAPER.mean, "fits": None}
    )


def equal_noise(std: float) -> Callable[[Source], np.ndarray]:
    return lambda source: np.full(len(NAMES), std)


def digits_noise(source: Source) -> np.ndarray:
    """As unequal as the standard deviations of the steps on digits, 0.22 to 1.60."""
    return np.exp(source.uniform(np.log(0.22), np.log(1.60), len(NAMES)))


NOISES = {"0.1": equal_noise(0.1), "0.5": equal_noise(0.5), "1": equal_noise(1.0), "0.22 to 1.6": digits_noise}


def shares(
    gaps: Callable[[Source], np.ndarray], stds: Callable[[Source], np.ndarray], seeds: int, studies: int, seed: int = 0
) -> dict[str, float]:
    """The share of studies that get each verdict, from fewer permutations than `roadmap compare` draws."""
    source = np.random.default_rng(seed)
    with patch.multiple("roadmap.statistics.gap_correlation", PERMUTATIONS=999, REPETITIONS=2):
        verdicts: Sequence[str] = [
            agreements(study(gaps(source), stds(source), seeds, source))[0].verdict for _ in range(studies)
        ]
    return {word: verdicts.count(word) / studies for word in ("agrees", "partly agrees")}


if __name__ == "__main__":
    print("| true gaps | seeds | std 0.1 | 0.5 | 1 | 0.22 to 1.6 |\n|---|---|---|---|---|---|")
    for name, gaps in (NULLS | COPIES).items():
        for seeds in (1, 3):
            found = [shares(gaps, stds, seeds, 2000) for stds in NOISES.values()]
            cells = [f"{100 * sum(each.values()):.1f} ({100 * each['agrees']:.0f})" for each in found]
            print(f"| {name} | {seeds} | {' | '.join(cells)} |", flush=True)
