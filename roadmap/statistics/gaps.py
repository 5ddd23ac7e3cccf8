"""Statistics over a few seeds: means and gaps with 95 % intervals, corrected p-values, and the seeds needed.

All values are in percentage points. Intervals and tests are Student's t, which assumes that the accuracies of a design
over its seeds are normally distributed. Samples are dicts of seed → accuracy, so that two can be paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.statistics.correction import ALPHA, CORRECTION_NAMES, Families
from roadmap.statistics.moderation import NO_VARIANCE, moderated
from roadmap.statistics.power import gap_error, more_seeds

CONFIDENCE = 0.95
OUTCOMES = BETTER, WORSE, EQUAL, UNDECIDED = "better", "worse", "equal", "undecided"
MIN_CORRELATED = 3  # fewest shared seeds whose correlation is reported

Sample = Mapping[int, float]


@dataclass(frozen=True)
class GapTest:
    """How gaps are tested.

    ``paired``: by the paired t-test over shared seeds, where there are two or more. ``equivalence``: also test whether
    gaps lie within ± this many percentage points. ``correction``: ``holm``, which bounds the probability of any false
    claim, or ``bh``, which bounds the expected share of false claims (Benjamini-Hochberg).
    """

    paired: bool = False
    equivalence: float | None = None
    correction: str = "holm"

    def __post_init__(self) -> None:
        if self.equivalence is not None and not 0 < self.equivalence <= 100:
            raise RequestError(
                f"equivalence must be above 0 and at most 100 percentage points (got {self.equivalence:g})"
            )
        if self.correction not in CORRECTION_NAMES:
            raise RequestError(f"unknown correction '{self.correction}' (choose {' or '.join(CORRECTION_NAMES)})")


DEFAULT_TEST = GapTest()


def means(samples: Sequence[Sample]) -> pd.DataFrame:
    """One row per sample: ``n``, ``mean``, ``std`` (n - 1), and the mean's 95 % t-interval ``low`` to ``high``.

    All are NaN for an empty sample; ``std`` and the interval also for a single value.
    """
    from scipy.special import stdtrit

    n, mean, variance = _moments(samples)
    std = np.sqrt(variance)
    half = stdtrit(np.maximum(n - 1, 1), (1 + CONFIDENCE) / 2) * std / np.sqrt(np.maximum(n, 1))
    return pd.DataFrame({"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half})


def gaps(
    pairs: Sequence[tuple[Sample, Sample] | None],
    test: GapTest = DEFAULT_TEST,
    declared: Sequence[bool] | None = None,
    family: int = 0,
) -> pd.DataFrame:
    """One row per pair ``(sample, reference)``; a row of NaN for None.

    ``delta`` is the difference of the means over all seeds, with its standard error ``delta_se``, degrees of freedom
    ``delta_df``, 95 % interval ``delta_low`` to ``delta_high`` (not corrected) and p-value ``delta_p``, by Welch's test
    with variances moderated over all samples of this call (``moderation.moderated``). ``delta_n`` is the number of
    values in the smaller sample. With ``test.paired`` and two or more shared seeds, all are over these seeds, by the
    paired t-test (``paired``), and ``delta_n`` is their number. ``delta_r`` is the correlation over three or more
    shared seeds. Gaps whose variance is unknown or 0 have neither interval nor p-value.

    ``delta_p_holm`` is corrected for all gaps tested here by Holm's method, ``delta_p_bh`` by Benjamini and Hochberg's;
    ``equal_p`` is the p-value of two one-sided tests of ``test.equivalence``, ``equal_p_corrected`` corrected likewise.
    If ``declared`` says which gaps were declared before the runs, these are corrected for the declared ones only, of
    which there are at least ``family``. ``outcome`` at 5 % after correction: ``equal`` (within the equivalence),
    ``better``, ``worse`` or ``undecided``; "" without a test.

    ``more_seeds`` is the number of additional seeds of each of the two that would make the observed gap significant,
    at the level that the correction leaves for the next gap, with a power of 80 %: 0 if it is already significant,
    infinite beyond 1,000; ``more_seeds_low`` to ``more_seeds_high`` for the ends of the variance's 95 % interval.
    """
    found = _measured(pairs, test.paired)
    known = np.isfinite(found.error)
    columns = found.columns(known)
    of_plan = np.ones(len(pairs), bool) if declared is None else np.asarray(declared, bool)
    families = Families(known, of_plan, family)
    for name in dict.fromkeys(("holm", test.correction)):
        columns[f"delta_p_{name}"] = families.corrected(columns["delta_p"], name)
    outside = columns[f"delta_p_{test.correction}"] < ALPHA
    outcome = np.where(outside, np.where(columns["delta"] > 0, BETTER, WORSE), np.where(known, UNDECIDED, ""))
    if test.equivalence is not None:
        columns["equal_p"] = _equal_p(columns["delta"], found, test.equivalence)
        columns["equal_p_corrected"] = families.corrected(columns["equal_p"], test.correction)
        outcome = np.where(columns["equal_p_corrected"] < ALPHA, EQUAL, outcome)
    level = families.next_level(outside, test.correction)
    wanted = known & ~outside
    for name, factor in _variance_interval(found.df).items():
        columns[name] = np.where(outside, 0.0, np.nan)
        columns[name][wanted] = more_seeds(
            columns["delta"][wanted],
            found.variances[wanted] * factor[wanted, None],
            found.n[wanted],
            found.dfs[wanted],
            level[wanted],
        )
    objects = {"outcome": outcome.tolist(), "paired": found.paired, "declared": of_plan.tolist()}
    return pd.DataFrame(columns | {name: pd.Series(values, dtype=object) for name, values in objects.items()})


@dataclass(frozen=True)
class _Measured:
    """For each row: ``delta``, ``seeds`` and ``correlation``, and of both groups the arguments of ``gap_error``."""

    delta: np.ndarray
    seeds: np.ndarray
    correlation: np.ndarray
    variances: np.ndarray
    n: np.ndarray
    dfs: np.ndarray
    paired: list[bool | None]
    error: np.ndarray
    df: np.ndarray

    def columns(self, known: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of ``gaps`` that need no correction; ``known`` are the rows with a standard error."""
        from scipy.special import stdtr, stdtrit

        half = stdtrit(self.df, (1 + CONFIDENCE) / 2) * self.error
        p = 2 * stdtr(self.df, -np.abs(self.delta) / self.error)
        return {
            "delta": self.delta,
            "delta_low": self.delta - half,
            "delta_high": self.delta + half,
            "delta_n": self.seeds,
            "delta_se": self.error,
            "delta_df": np.where(known, self.df, np.nan),
            "delta_r": self.correlation,
            "delta_p": np.where(known, p, np.nan),
        }


def _measured(pairs: Sequence[tuple[Sample, Sample] | None], paired: bool) -> _Measured:
    given = [(row, *pair) for row, pair in enumerate(pairs) if pair is not None and pair[0] and pair[1]]
    samples = {id(sample): sample for _, *pair in given for sample in pair}
    place = {key: number for number, key in enumerate(samples)}
    n, mean, own = _moments([*samples.values()])
    variance, df = moderated(own, n - 1)
    delta, seeds, correlation = (np.full(len(pairs), np.nan) for _ in range(3))
    variances, ns, dfs = (np.full((len(pairs), 2), fill) for fill in (np.nan, 1.0, 1.0))
    kinds: list[bool | None] = [None] * len(pairs)
    for row, sample, reference in given:
        both = [place[id(sample)], place[id(reference)]]
        delta[row], seeds[row], kinds[row] = mean[both[0]] - mean[both[1]], n[both].min(), False
        variances[row], ns[row], dfs[row] = variance[both], n[both], df[both]
        shared = sorted(sample.keys() & reference.keys())
        if len(shared) > 1:
            ours, theirs = (np.array([each[seed] for seed in shared]) for each in (sample, reference))
            correlation[row] = _correlation(ours, theirs)
            if paired:
                difference = ours - theirs
                delta[row], seeds[row], kinds[row] = difference.mean(), len(shared), True
                variances[row], ns[row], dfs[row] = (difference.var(ddof=1), 0.0), len(shared), len(shared) - 1
    error, df_of_gap = gap_error(variances, ns, dfs, np.maximum(n - 1, 0).sum())
    error = np.where(error**2 > NO_VARIANCE, error, np.nan)
    return _Measured(delta, seeds, correlation, variances, ns, dfs, kinds, error, df_of_gap)


def _moments(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number, mean and variance (n - 1) of each sample."""
    n = np.array([len(sample) for sample in samples], int)
    group = np.repeat(np.arange(len(n)), n)
    values = np.array([value for sample in samples for value in sample.values()], float)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(group, values, len(n)) / n
    squares = np.bincount(group, (values - mean[group]) ** 2, len(n))
    return n, mean, np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)


def _correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    if len(ours) < MIN_CORRELATED or min(ours.var(), theirs.var()) <= NO_VARIANCE:
        return float("nan")
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)))


def _equal_p(delta: np.ndarray, found: _Measured, bound: float) -> np.ndarray:
    """The larger p-value of the two one-sided tests that the gap is above -``bound`` and below ``bound``.

    Schuirmann (1987), doi:10.1007/BF01068419.
    """
    from scipy.special import stdtr

    return np.where(np.isfinite(found.error), stdtr(found.df, (np.abs(delta) - bound) / found.error), np.nan)


def _variance_interval(df: np.ndarray) -> dict[str, np.ndarray]:
    """Factors from a variance estimated with ``df`` degrees of freedom to itself and to its 95 % interval."""
    from scipy.special import chdtri

    tail = (1 - CONFIDENCE) / 2
    return {
        "more_seeds": np.ones(len(df)),
        "more_seeds_low": df / chdtri(df, tail),
        "more_seeds_high": df / chdtri(df, 1 - tail),
    }
