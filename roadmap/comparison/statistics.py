"""What can be said of accuracies over few seeds: means and gaps with 95 % intervals, corrected p-values, seeds needed.

All of it in percentage points, by Student's t: seeds are few, and the accuracies of one design over its seeds are taken
as normal. Tests are scipy's and statsmodels'. Samples are dicts of seed → accuracy, so that two can be paired.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

CONFIDENCE, ALPHA, POWER = 0.95, 0.05, 0.8
MOST_SEEDS = 1000  # beyond, a number of seeds means: not with seeds

Sample = Mapping[int, float]
GAPS = ("delta", "delta_low", "delta_high", "delta_n", "delta_p", "delta_p_holm", "more_seeds")


def means(samples: Sequence[Sample]) -> pd.DataFrame:
    """One row a sample: ``n``, ``mean``, ``std`` (n - 1), and the mean's 95 % t-interval ``low`` to ``high``.

    NaN where there is no value; std and interval are NaN for one.
    """
    from scipy.special import stdtrit

    n = np.array([len(sample) for sample in samples])
    values = [np.fromiter(sample.values(), float) for sample in samples]
    mean = np.array([sample.mean() if len(sample) else np.nan for sample in values])
    std = np.array([sample.std(ddof=1) if len(sample) > 1 else np.nan for sample in values])
    # of a normal's mean with unknown variance
    half = stdtrit(np.maximum(n - 1, 1), (1 + CONFIDENCE) / 2) * std / np.sqrt(np.maximum(n, 1))
    return pd.DataFrame({"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half})


def gaps(pairs: Sequence[tuple[Sample, Sample] | None]) -> pd.DataFrame:
    """One row a pair ``(sample, reference)``, None giving a row of NaN.

    ``delta`` is mean minus mean, over the shared seeds and by the paired t-test (``paired``) where two or more seeds
    are shared, else over all seeds and by Welch's test where both have two or more; ``delta_n`` is the number of pairs,
    or of the smaller sample. ``delta_low`` to ``delta_high`` is the 95 % interval of this gap alone, ``delta_p`` its
    p-value, ``delta_p_holm`` the same corrected by Holm's method for all the gaps tested here. ``more_seeds`` is how
    many more shared seeds would tell the observed gap from 0, corrected for as many comparisons, with a power of 80 %
    at the observed variance: 0 where it is told already, infinite beyond 1,000. Gaps without any variance have neither
    interval nor p-value: so few values of limited resolution say nothing about it.
    """
    columns = {name: np.full(len(pairs), np.nan) for name in GAPS}
    alike: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    aligned = [_aligned(*pair) if pair else None for pair in pairs]
    for row, pair in enumerate(aligned):
        if pair is not None and len(pair.ours) and len(pair.theirs):
            columns["delta"][row] = pair.ours.mean() - pair.theirs.mean()
            columns["delta_n"][row] = min(len(pair.ours), len(pair.theirs))
            if columns["delta_n"][row] > 1:
                alike[pair.paired, len(pair.ours), len(pair.theirs)].append(row)
    spread = np.full(len(pairs), np.nan)
    for (paired, *_), rows in alike.items():
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
    """The values to be compared; where ``paired``, those of one seed stand at one place."""

    ours: np.ndarray
    theirs: np.ndarray
    paired: bool


def _aligned(sample: Sample, reference: Sample) -> Aligned:
    """By seed where two or more seeds are shared, or where there is but one of each and it is the same."""
    shared = sorted(sample.keys() & reference.keys())
    if len(shared) > 1 or (shared and len(sample) == len(reference) == 1):
        pairs = np.array([(sample[seed], reference[seed]) for seed in shared])
        return Aligned(pairs[:, 0], pairs[:, 1], True)
    return Aligned(np.array(list(sample.values())), np.array(list(reference.values())), False)


def _tested(
    ours: np.ndarray, theirs: np.ndarray, paired: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs of equal sizes, a row each: the interval's ends, the p-value, and the std of one pair's difference."""
    from scipy import stats

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # values that are all the same make scipy divide by 0; they are left out below
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            result = stats.ttest_rel(ours, theirs, axis=1)
            spread = (ours - theirs).std(axis=1, ddof=1)
        else:
            result = stats.ttest_ind(ours, theirs, axis=1, equal_var=False)
            spread = np.sqrt(ours.var(axis=1, ddof=1) + theirs.var(axis=1, ddof=1))
        interval = result.confidence_interval(CONFIDENCE)
    # differences of equal shares are not equal to the last bit
    known = spread > 1e-9
    low, high, p, std = (
        np.where(known, value, np.nan) for value in (interval.low, interval.high, result.pvalue, spread)
    )
    return low, high, p, std


def _correct(columns: dict[str, np.ndarray], spread: np.ndarray) -> None:
    """Holm's correction over all gaps that were tested, and the seeds that the others would take."""
    (tested,) = np.nonzero(~np.isnan(columns["delta_p"]))
    if not len(tested):
        return
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(columns["delta_p"][tested], ALPHA, method="holm")[1]
    wanted = seeds_for(np.abs(columns["delta"][tested]), spread[tested], ALPHA / len(tested))
    columns["delta_p_holm"][tested] = corrected
    columns["more_seeds"][tested] = np.where(corrected < ALPHA, 0, np.maximum(wanted - columns["delta_n"][tested], 1))


def seeds_for(gap: np.ndarray, spread: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """How many pairs of seeds tell each ``gap`` from 0 with a power of 80 %; their differences have the std ``spread``.

    Infinite beyond 1,000.
    """
    from scipy.special import ndtri
    from statsmodels.stats.power import TTestPower

    effect = gap / spread
    with np.errstate(divide="ignore"):
        # what it would take were the variance known, which is never more than it does take
        n = np.maximum(np.ceil(((ndtri(1 - alpha / 2) + ndtri(POWER)) / effect) ** 2), 2)
    open_rows = np.nonzero(n <= MOST_SEEDS)[0]
    while len(open_rows):
        power = np.asarray(TTestPower().power(effect[open_rows], n[open_rows], alpha))
        # NaN is where the other tail underflows: a power of 1
        open_rows = open_rows[power < POWER]
        n[open_rows] += 1
    return np.where(n <= MOST_SEEDS, n, np.inf)
