"""Statistics over a few seeds: means and gaps with 95 % intervals, corrected p-values, and the seeds needed.

All values are in percentage points. Intervals and tests are Student's t, which assumes that the accuracies of a design
over its seeds are normally distributed. Samples are dicts of seed → accuracy, so that two can be paired.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

CONFIDENCE, ALPHA, POWER = 0.95, 0.05, 0.8
MOST_SEEDS = 1000  # a larger number of seeds is reported as infinite

Sample = Mapping[int, float]
GAPS = ("delta", "delta_low", "delta_high", "delta_n", "delta_p", "delta_p_holm", "more_seeds")


def means(samples: Sequence[Sample]) -> pd.DataFrame:
    """One row per sample: ``n``, ``mean``, ``std`` (n - 1), and the mean's 95 % t-interval ``low`` to ``high``.

    All are NaN for an empty sample; ``std`` and the interval also for a single value.
    """
    from scipy.special import stdtrit

    n = np.array([len(sample) for sample in samples])
    values = [np.fromiter(sample.values(), float) for sample in samples]
    mean = np.array([sample.mean() if len(sample) else np.nan for sample in values])
    std = np.array([sample.std(ddof=1) if len(sample) > 1 else np.nan for sample in values])
    half = stdtrit(np.maximum(n - 1, 1), (1 + CONFIDENCE) / 2) * std / np.sqrt(np.maximum(n, 1))
    return pd.DataFrame({"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half})


def gaps(pairs: Sequence[tuple[Sample, Sample] | None]) -> pd.DataFrame:
    """One row per pair ``(sample, reference)``; a row of NaN for None.

    ``delta`` is the difference of the means. If two or more seeds are shared, it is over these seeds with the paired
    t-test (``paired``); otherwise over all seeds, with Welch's test if both have two or more. ``delta_n`` is the number
    of pairs, or of values in the smaller sample. ``delta_low`` to ``delta_high`` is the 95 % interval of this gap,
    not corrected; ``delta_p`` its p-value; ``delta_p_holm`` the p-value corrected by Holm's method for all gaps tested
    here. ``more_seeds`` is the number of additional shared seeds that would make the observed gap significant, with
    Bonferroni's correction for the same number of tests, with a power of 80 % at the observed variance: 0 if it is
    already significant, infinite beyond 1,000. Gaps without variance have neither interval nor p-value, because a few
    values of limited resolution do not determine it.
    """
    columns = {name: np.full(len(pairs), np.nan) for name in GAPS}
    same_sizes: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    aligned = [_aligned(*pair) if pair else None for pair in pairs]
    for row, pair in enumerate(aligned):
        if pair is not None and len(pair.ours) and len(pair.theirs):
            columns["delta"][row] = pair.ours.mean() - pair.theirs.mean()
            columns["delta_n"][row] = min(len(pair.ours), len(pair.theirs))
            if columns["delta_n"][row] > 1:
                same_sizes[pair.paired, len(pair.ours), len(pair.theirs)].append(row)
    spread = np.full(len(pairs), np.nan)
    for (paired, *_), rows in same_sizes.items():
        members = [aligned[row] for row in rows]
        ours = np.stack([pair.ours for pair in members if pair])
        theirs = np.stack([pair.theirs for pair in members if pair])
        tested = _tested(ours, theirs, paired)
        for name, values in zip(("delta_low", "delta_high", "delta_p"), tested[:3], strict=True):
            columns[name][rows] = values
        spread[rows] = tested[3]
    _correct(columns, spread)
    paired_rows = [pair.paired if pair and len(pair.ours) else None for pair in aligned]
    return pd.DataFrame(columns | {"paired": pd.Series(paired_rows, dtype=object)})


@dataclass(frozen=True)
class Aligned:
    """Two samples as arrays; if ``paired``, values at the same position have the same seed."""

    ours: np.ndarray
    theirs: np.ndarray
    paired: bool


def _aligned(sample: Sample, reference: Sample) -> Aligned:
    """Pair by seed if two or more seeds are shared, or if both samples have the same single seed."""
    shared = sorted(sample.keys() & reference.keys())
    if len(shared) > 1 or (shared and len(sample) == len(reference) == 1):
        pairs = np.array([(sample[seed], reference[seed]) for seed in shared])
        return Aligned(pairs[:, 0], pairs[:, 1], True)
    return Aligned(np.array(list(sample.values())), np.array(list(reference.values())), False)


def _tested(
    ours: np.ndarray, theirs: np.ndarray, paired: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For pairs of samples of equal sizes, one per row: interval, p-value, and the std of one pair's difference."""
    from scipy import stats

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scipy divides by 0 for samples without variance, which are set to NaN below
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            result = stats.ttest_rel(ours, theirs, axis=1)
            spread = (ours - theirs).std(axis=1, ddof=1)
        else:
            result = stats.ttest_ind(ours, theirs, axis=1, equal_var=False)
            spread = np.sqrt(ours.var(axis=1, ddof=1) + theirs.var(axis=1, ddof=1))
        interval = result.confidence_interval(CONFIDENCE)
    # equal differences are not equal to the last bit
    known = spread > 1e-9
    low, high, p, std = (
        np.where(known, value, np.nan) for value in (interval.low, interval.high, result.pvalue, spread)
    )
    return low, high, p, std


def _correct(columns: dict[str, np.ndarray], spread: np.ndarray) -> None:
    """Fill in Holm's correction over all tested gaps, and the additional seeds that the others need."""
    (tested,) = np.nonzero(~np.isnan(columns["delta_p"]))
    if not len(tested):
        return
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(columns["delta_p"][tested], ALPHA, method="holm")[1]
    wanted = seeds_for(np.abs(columns["delta"][tested]), spread[tested], ALPHA / len(tested))
    columns["delta_p_holm"][tested] = corrected
    columns["more_seeds"][tested] = np.where(corrected < ALPHA, 0, np.maximum(wanted - columns["delta_n"][tested], 1))


def seeds_for(gap: np.ndarray, spread: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """The number of seed pairs that detect each ``gap`` with a power of 80 %, infinite beyond 1,000.

    ``spread`` is the standard deviation of the pairs' differences.
    """
    from scipy.special import ndtri
    from statsmodels.stats.power import TTestPower

    effect = gap / spread
    with np.errstate(divide="ignore"):
        # the number for known variance, a lower bound
        n = np.maximum(np.ceil(((ndtri(1 - alpha / 2) + ndtri(POWER)) / effect) ** 2), 2)
    open_rows = np.nonzero(n <= MOST_SEEDS)[0]
    while len(open_rows):
        power = np.asarray(TTestPower().power(effect[open_rows], n[open_rows], alpha))
        # NaN: the other tail underflows, so the power is 1
        open_rows = open_rows[power < POWER]
        n[open_rows] += 1
    return np.where(n <= MOST_SEEDS, n, np.inf)
