"""Error EDFs (empirical distribution functions) of design spaces, with bootstrap intervals.

As in arXiv:1905.13214 (On Network Design Spaces for Visual Recognition). The bootstrap resamples designs; seed noise
is part of the EDF.
"""

import itertools
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from roadmap.comparison.statistics import ALPHA, CONFIDENCE
from roadmap.design_spaces.design_samples import COSTS, DesignSample

RESAMPLES = 2000
BEST_OF = 0.25  # size of the draws whose best design is reported, as a share of the smallest space
TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def weights(sample: DesignSample, counts: np.ndarray | None = None) -> np.ndarray:
    """The weights of the designs, which sum to 1; one row per resample with ``counts`` of shape (n_resamples, n)."""
    counts = np.ones((1, len(sample.strata))) if counts is None else counts
    classes, sizes = np.unique(sample.strata, return_counts=True)
    return counts / (len(classes) * sizes[np.searchsorted(classes, sample.strata)])


def resampled(sample: DesignSample, source: np.random.Generator) -> np.ndarray:
    """The weights (RESAMPLES, n) of bootstrap resamples, drawn within each class of cost."""
    counts = np.zeros((RESAMPLES, len(sample.strata)))
    for stratum in np.unique(sample.strata):
        (members,) = np.nonzero(sample.strata == stratum)
        counts[:, members] = source.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return weights(sample, counts)


def shares(sample: DesignSample, at: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The total weight (n_weights, n_at) of the designs whose error is at most each value of ``at``."""
    return weight @ (sample.errors[:, None] <= at)


def band(sample: DesignSample, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pointwise 95 % bootstrap band of the EDF."""
    low, high = np.quantile(shares(sample, at, resampled(sample, np.random.default_rng(0))), TAILS, axis=0)
    return low, high


def medians(sample: DesignSample, weight: np.ndarray) -> np.ndarray:
    """The weighted median error for each row of weights."""
    order = np.argsort(sample.errors)
    sums = np.cumsum(weight[:, order], axis=1)
    # sums of equal weights differ in the last bits
    return sample.errors[order][np.argmax(sums >= 0.5 - 1e-9, axis=1)]


def best_of(sample: DesignSample, drawn: int) -> tuple[float, float, float]:
    """The lowest error of ``drawn`` designs drawn from the EDF with replacement: mean, and 95 % range."""
    order = np.argsort(sample.errors)
    errors = sample.errors[order]
    # probability that the best error is at most each error
    at_most = 1 - (1 - np.cumsum(weights(sample)[0, order])).clip(0) ** drawn
    low, high = (errors[min(int(np.searchsorted(at_most, tail)), len(errors) - 1)] for tail in TAILS)
    return float(errors @ np.diff(at_most, prepend=0)), float(low), float(high)


def summary(samples: Sequence[DesignSample]) -> pd.DataFrame:
    """One row per sample; errors are in percent.

    ``designs``; ``seeds_min`` and ``seeds_max``; ``median`` error with its 95 % bootstrap interval ``low`` to ``high``;
    the ``best`` observed error; ``best_of_mean`` and ``best_of_low`` to ``best_of_high`` for the best of ``drawn``
    designs, the same number for each sample; median ``gmacs`` and ``params``; ``effective``, the effective sample
    size of the weighted designs.
    """
    drawn = max(1, round(BEST_OF * min(len(each.designs) for each in samples)))
    rows = []
    for each in samples:
        low, high = np.quantile(medians(each, resampled(each, np.random.default_rng(0))), TAILS)
        mean, best_low, best_high = best_of(each, drawn)
        rows.append(
            {"space": each.name, "designs": len(each.designs), "missing": each.missing}
            | {"seeds_min": int(each.designs["seeds"].min()), "seeds_max": int(each.designs["seeds"].max())}
            | {"median": float(medians(each, weights(each))[0]), "low": low, "high": high}
            | {"best": each.errors.min(), "drawn": drawn}
            | {"best_of_mean": mean, "best_of_low": best_low, "best_of_high": best_high}
            | {cost: float(each.designs[cost].median()) for cost in COSTS}
            | {"effective": float(1 / (weights(each) ** 2).sum())}
        )
    return pd.DataFrame(rows)


def pairs(samples: Sequence[DesignSample]) -> pd.DataFrame:
    """One row per pair of samples.

    ``delta`` is the second median error minus the first, in percentage points, with its uncorrected 95 % bootstrap
    interval ``low`` to ``high``. ``distance`` is the largest distance between the two EDFs, ``p`` the p-value of the
    two-sided Kolmogorov-Smirnov test, and ``p_holm`` the same corrected for all pairs. The test does not support
    weights, so both are NaN for normalised samples.
    """
    rows = []
    for one, other in itertools.combinations(samples, 2):
        source = np.random.default_rng(0)
        first, second = (medians(each, resampled(each, source)) for each in (one, other))
        low, high = np.quantile(second - first, TAILS)
        at = np.union1d(one.errors, other.errors)
        distance = np.abs(shares(one, at, weights(one)) - shares(other, at, weights(other))).max()
        delta = medians(other, weights(other))[0] - medians(one, weights(one))[0]
        rows.append(
            {"one": one.name, "other": other.name, "delta": delta, "low": low, "high": high}
            | {"distance": distance, "p": _ks(one, other)}
        )
    table = pd.DataFrame(rows, columns=["one", "other", "delta", "low", "high", "distance", "p"])
    return table.assign(p_holm=_holm(table["p"].to_numpy(float)))


def _ks(one: DesignSample, other: DesignSample) -> float:
    if any(len(np.unique(each.strata)) > 1 for each in (one, other)):
        return float("nan")
    return _ks_p(one.errors, other.errors)


def _ks_p(one: np.ndarray, other: np.ndarray) -> float:
    from scipy import stats

    with warnings.catch_warnings():
        # of many values scipy has no exact p and takes the asymptotic one, as it should
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ks_2samp(one, other).pvalue)


def _holm(p: np.ndarray) -> np.ndarray:
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1] if len(p) and not np.isnan(p).any() else np.full(len(p), np.nan)


def unequal_costs(samples: Sequence[DesignSample]) -> dict[str, str]:
    """The costs in which the spaces differ, with what each costs in words: errors may differ by what designs cost.

    They do where the medians are more than 5 % apart, or a Kolmogorov-Smirnov test tells two of them apart.
    """
    found = {}
    for cost, unit in COSTS.items():
        values = [each.designs[cost].to_numpy(float) for each in samples]
        middles = [float(np.median(each)) for each in values]
        tests = [_ks_p(*two) for two in itertools.combinations(values, 2)]
        if tests and (min(tests) * len(tests) < ALPHA or max(middles) > 1.05 * min(middles)):
            each = ", ".join(f"{p.name} {middle:.4g}" for p, middle in zip(samples, middles, strict=True))
            found[cost] = f"median {unit}: {each}"
    return found
