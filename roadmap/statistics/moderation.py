"""Variances over few seeds, moderated toward those of the other groups of a table by empirical Bayes.

The model is Smyth's (2004, doi:10.2202/1544-6115.1027), as in limma: a group's variance is drawn from a scaled inverse
chi-squared distribution, the prior, whose degrees of freedom follow from how much the log variances of all groups
differ. With two or three seeds its plug-in estimates promise too much if variances really differ, so here

- the dispersion of the log variances is raised by 1.5 standard errors, which lowers the degrees of freedom; they are
  also multiplied by (G - 3) / (G - 1) for G groups, as in positive-part James-Stein shrinkage;
- the prior's variance is the square of the mean of the unbiased standard deviations, which lies between limma's
  estimate and the pooled variance;
- a moderated variance is never below the group's own.

tests/statistics/gap_simulation.py simulates the error rates.
"""

import numpy as np

MIN_GROUPS = 4  # fewest groups with two or more seeds that make a prior
MARGIN = 1.5  # standard errors
NO_VARIANCE = 1e-18  # equal accuracies are not equal to the last bit


def moderated(variances: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moderated variances, (..., groups), and their degrees of freedom.

    ``variances`` are sample variances of the last axis' groups with ``df`` (groups,) degrees of freedom, n - 1. Groups
    with 0 have NaN, because nothing bounds their variance from below. With fewer than four others nothing is moderated.
    """
    prior, prior_df = prior_of(variances, df)
    prior, prior_df = prior[..., None], prior_df[..., None]
    found = shrunk(np.where(df > 0, variances, np.nan), df, prior, prior_df)
    return found, np.broadcast_to(np.minimum(prior_df + df, df.sum()), found.shape)


def shrunk(own: np.ndarray, df: np.ndarray, prior: np.ndarray, prior_df: np.ndarray) -> np.ndarray:
    """Return variances with ``df`` drawn toward a prior's, never below their own; all broadcast."""
    with np.errstate(invalid="ignore"):
        weight = np.where(np.isinf(prior_df), 1.0, prior_df / (prior_df + df))
        return np.maximum(np.where(weight > 0, weight * prior + (1 - weight) * own, own), own)


def prior_of(variances: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the prior's variance and degrees of freedom, for ``variances`` (..., groups) with ``df`` (groups,).

    The degrees of freedom are 0 with fewer than four groups of two or more seeds, or if no group varies, and infinite
    if the log variances differ less than those of equal variances would.
    """
    from scipy.special import digamma, poch, polygamma

    variances, df = variances[..., df > 0], df[df > 0]
    groups = len(df)
    if groups < MIN_GROUPS:
        return np.full(variances.shape[:-1], np.nan), np.zeros(variances.shape[:-1])
    # a logarithm needs a variance: equal accuracies, of limited resolution, count as the smallest one
    smallest = np.where(variances > NO_VARIANCE, variances, np.inf).min(axis=-1, keepdims=True)
    varies = np.isfinite(smallest[..., 0])
    logs = np.log(np.maximum(variances, np.where(varies[..., None], smallest, 1.0))) - digamma(df / 2) + np.log(df / 2)
    expected = polygamma(1, df / 2).mean()
    error = np.sqrt(polygamma(3, df / 2).mean() / groups + 2 * expected**2 / (groups - 1))
    excess = logs.var(axis=-1, ddof=1) - expected + MARGIN * error
    prior_df = np.where(excess > 0, 2 * _trigamma_inverse(np.where(excess > 0, excess, 1.0)), np.inf)
    # the mean of s is the standard deviation times this factor, c4 of control charts
    bias = np.sqrt(2 / df) * poch(df / 2, 0.5)
    prior = (np.sqrt(variances) / bias).mean(axis=-1) ** 2
    return np.where(varies, prior, np.nan), np.where(varies, prior_df * (groups - 3) / (groups - 1), 0.0)


def _trigamma_inverse(x: np.ndarray) -> np.ndarray:
    """Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / x
    for _ in range(12):
        trigamma = polygamma(1, y)
        y = y + trigamma * (1 - trigamma / x) / polygamma(2, y)
    return y
