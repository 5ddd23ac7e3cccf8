"""Correlation of gaps: whether two series of steps agree on what each step changes.

The gaps of a path are correlated, not its levels: levels are cumulative sums, so those of two unrelated paths correlate
by chance far more often than a test for exchangeable values assumes.
"""

from dataclasses import dataclass

import numpy as np

from roadmap.statistics.gaps import CONFIDENCE
from roadmap.statistics.moderation import moderated
from roadmap.statistics.power import gap_error

PERMUTATIONS, REPETITIONS = 9999, 2000


@dataclass(frozen=True)
class Levels:
    """The ``mean`` accuracy of each step (steps,), with the ``variance`` of one seed, its ``df`` and the ``n`` seeds.

    Steps of one seed have the pooled variance of the others; all are NaN if no step has two seeds.
    """

    mean: np.ndarray
    variance: np.ndarray
    n: np.ndarray
    df: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, std: np.ndarray, n: np.ndarray) -> "Levels":
        """From sample standard deviations (n - 1), NaN where ``n`` is 1; variances are moderated over the steps."""
        mean, n, several = np.asarray(mean, float), np.asarray(n), ~np.isnan(np.asarray(std, float))
        variance, df = moderated(np.where(several, std, 0.0) ** 2, np.where(several, n - 1, 0))
        if several.any():
            total = (n - 1)[several].sum()
            pooled = ((n - 1)[several] * np.asarray(std)[several] ** 2).sum() / total
            variance, df = np.where(several, variance, pooled), np.where(several, df, total)
        return cls(mean, np.where(several.any(), variance, np.nan), n, df)

    def at(self, places: list[int]) -> "Levels":
        """The levels of some steps."""
        return Levels(self.mean[places], self.variance[places], self.n[places], self.df[places])

    @property
    def error(self) -> np.ndarray:
        """The squared standard error of each mean, 0 where unknown."""
        return np.nan_to_num(self.variance) / self.n


@dataclass(frozen=True)
class GapCorrelation:
    """The weighted correlation ``r`` of two series of gaps, and the one-sided ``p`` that it is not positive.

    ``low`` to ``high`` is the 95 % interval, over seeds, of the true gaps' correlation; NaN if errors are unknown.
    """

    r: float
    p: float
    low: float
    high: float


def gap_correlation(ours: Levels, theirs: Levels, edges: np.ndarray) -> GapCorrelation:
    """Correlate the gaps of two series of levels; ``edges`` (gaps, 2) has the indices of each step and its parent.

    A gap's weight is 1 / (1 + Σ error² / variance), over both series: its squared standard error relative to the
    variance of the series' gaps. ``p`` is the larger of two permutation tests: of gaps, exact if the true gaps of ours
    are exchangeable and known, and of levels, exact if ours differ by noise only. The seed is fixed.

    The interval repeats the experiment with the observed gaps, shrunk by the variance that noise adds, as truth. It is
    of the correlation corrected for attenuation, and spans the repetitions around the uncorrected and around the
    corrected value; the latter alone covers too rarely.
    """
    random = np.random.default_rng(0)
    gaps, errors = _gaps(ours.mean, edges), _sums(ours.error, edges)
    fixed, fixed_errors = _gaps(theirs.mean, edges), _sums(theirs.error, edges)
    r = _weighted_correlation(gaps, errors, fixed, fixed_errors)
    by_gaps = random.permuted(np.tile(np.arange(len(edges)), (PERMUTATIONS, 1)), axis=1)
    by_levels = random.permuted(np.tile(np.arange(len(ours.mean)), (PERMUTATIONS, 1)), axis=1)
    shuffled = (
        (gaps[by_gaps], errors[by_gaps]),
        (_gaps(ours.mean[by_levels], edges), _sums(ours.error[by_levels], edges)),
    )
    found = [_weighted_correlation(one, error, fixed, fixed_errors) for one, error in shuffled]
    p = max((1 + int((each >= r - 1e-12).sum())) / (PERMUTATIONS + 1) for each in found)
    low, high = _interval(ours, theirs, edges, random) if ours.error.any() else (np.nan, np.nan)
    return GapCorrelation(float(r), p, low, high)


def resolved(levels: Levels, edges: np.ndarray) -> np.ndarray:
    """Return which gaps have a 95 % interval without 0, by Welch's test."""
    from scipy.special import stdtrit

    error, df = gap_error(levels.variance[edges], levels.n[edges], levels.df[edges])
    return np.asarray(np.abs(_gaps(levels.mean, edges)) > stdtrit(df, (1 + CONFIDENCE) / 2) * error)


def _gaps(levels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return levels[..., edges[:, 0]] - levels[..., edges[:, 1]]


def _sums(errors: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return errors[..., edges[:, 0]] + errors[..., edges[:, 1]]


def _weights(gaps: np.ndarray, errors: np.ndarray, fixed: np.ndarray, fixed_errors: np.ndarray) -> np.ndarray:
    noise = errors / gaps.var(axis=-1, keepdims=True) + fixed_errors / fixed.var()
    weights = 1 / (1 + noise)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _weighted_correlation(
    gaps: np.ndarray, errors: np.ndarray, fixed: np.ndarray, fixed_errors: np.ndarray
) -> np.ndarray:
    both, one, other = _moments(gaps, fixed, _weights(gaps, errors, fixed, fixed_errors))
    return np.asarray(both / np.sqrt(one * other))


def _moments(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weighted covariance and variances over the last axis."""
    one = one - (weights * one).sum(axis=-1, keepdims=True)
    other = other - (weights * other).sum(axis=-1, keepdims=True)
    return (weights * one * other).sum(axis=-1), (weights * one**2).sum(axis=-1), (weights * other**2).sum(axis=-1)


def _interval(ours: Levels, theirs: Levels, edges: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    series = (ours, theirs)
    gaps = [_gaps(levels.mean, edges) for levels in series]
    errors = [_sums(levels.error, edges) for levels in series]
    weights = _weights(gaps[0], errors[0], gaps[1], errors[1])
    noise = [_noise(levels.error, edges, weights) for levels in series]
    moments = _moments(gaps[0], gaps[1], weights)
    observed, corrected = moments[0] / np.sqrt(moments[1] * moments[2]), _corrected(*moments, *noise)
    repeated = []
    for levels, own, variance, excess in zip(series, gaps, moments[1:], noise, strict=True):
        mean, share = (weights * own).sum(), np.sqrt(max(variance - excess, 0.0) / variance)
        drawn = random.normal(0, np.sqrt(levels.error), (REPETITIONS, len(levels.mean)))
        repeated.append(mean + share * (own - mean) + _gaps(drawn, edges))
    values = _corrected(*_moments(repeated[0], repeated[1], weights), *noise)
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    shift = corrected - observed
    return max(float(low + min(shift, 0)), -1.0), min(float(high + max(shift, 0)), 1.0)


def _noise(errors: np.ndarray, edges: np.ndarray, weights: np.ndarray) -> float:
    """What independent errors of the levels are expected to add to the weighted variance of the gaps."""
    shares = np.eye(len(errors))[edges[:, 0]] - np.eye(len(errors))[edges[:, 1]]
    return float((weights @ shares**2 - (weights @ shares) ** 2) @ errors)


def _corrected(both: np.ndarray, one: np.ndarray, other: np.ndarray, noise: float, other_noise: float) -> np.ndarray:
    """The correlation corrected for attenuation, at most 1 in size, and of size 1 where noise explains a variance."""
    size = np.sqrt(np.maximum(one - noise, 0.0) * np.maximum(other - other_noise, 0.0))
    with np.errstate(divide="ignore"):
        return np.clip(np.where(size > 0, both / np.maximum(size, 1e-300), np.sign(both)), -1.0, 1.0)
