"""Power of the tests of a gap, and the seeds that resolve it."""

import numpy as np

POWER = 0.8
MOST_SEEDS = 1000  # a larger number of seeds is reported as infinite
INFINITE = 1e6  # degrees of freedom beyond which Student's t is the normal distribution


def gap_error(
    variances: np.ndarray, n: np.ndarray, df: np.ndarray, most_df: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error of a difference of two means and its degrees of freedom by Satterthwaite's formula.

    All are (..., 2): the ``variances`` of the two groups, their ``n`` seeds and their variances' ``df``. A paired test
    is the case of one group, with a second variance of 0. ``most_df`` is the sum over all groups that moderated the
    variances, because two moderated variances are not independent.
    """
    parts = variances / n
    total = parts.sum(axis=-1)
    with np.errstate(all="ignore"):
        # in shares of the total, since squares of small variances underflow
        found = 1 / ((parts / total[..., None]) ** 2 / np.minimum(df, INFINITE)).sum(axis=-1)
    return np.sqrt(total), np.minimum(found, most_df)


def power(gap: np.ndarray, error: np.ndarray, df: np.ndarray, alpha: np.ndarray | float) -> np.ndarray:
    """Return the power of a two-sided t-test at ``alpha`` to find a ``gap`` and its sign: non-central t, near tail.

    ``error`` is the gap's true standard error, estimated with ``df`` degrees of freedom.
    """
    # scipy.stats takes half a second to import
    from scipy.special import nctdtr, stdtrit

    df = np.minimum(df, INFINITE)
    # the series converge up to here, where the power is 1 for all practical purposes
    shift = np.minimum(np.abs(gap) / error, 1e4)
    below = nctdtr(df, shift, stdtrit(df, 1 - np.asarray(alpha) / 2))
    # NaN where the probability underflows, and nowhere else: tests/statistics/test_power.py
    return 1 - np.where(np.isnan(below), 0.0, below)


def more_seeds(
    gap: np.ndarray, variances: np.ndarray, n: np.ndarray, df: np.ndarray, alpha: np.ndarray | float
) -> np.ndarray:
    """Return how many more seeds of each of the two groups detect ``gap`` with a power of 80 %.

    ``gap`` is (rows,), the others (rows, 2) as in ``gap_error``. At least 1; infinite beyond 1,000.
    """

    def enough(more: np.ndarray) -> np.ndarray:
        added = more[:, None]
        return power(gap, *gap_error(variances, n + added, df + added), alpha) >= POWER

    least, most = np.zeros(len(gap), int), np.full(len(gap), MOST_SEEDS + 1)
    while (most - least > 1).any():
        middle = np.maximum((least + most) // 2, 1)  # 0 would be tried for rows that are done
        found = enough(middle)
        most, least = np.where(found, middle, most), np.where(found, least, middle)
    return np.where(most > MOST_SEEDS, np.inf, most)
