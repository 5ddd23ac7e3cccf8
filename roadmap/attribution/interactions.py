"""Interactions of pairs of changes: a linear model of accuracies, tested without assuming equal variances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from roadmap.statistics.gaps import Sample

DRAWS = 1999


@dataclass(frozen=True)
class Interactions:
    """A linear model of the accuracy of measured sets with main effects of the changes and interactions of pairs.

    ``pairs`` has one row per two changes: ``first``, ``second``, ``estimate`` and ``se`` (HC3) in percentage points,
    ``p``, and ``p_corrected`` for all pairs; it is empty unless there are more ``sets`` than ``terms`` of the model.
    ``left_out`` is the number of pairs without all four combinations; ``additive`` the adjusted R² of main effects
    alone; ``f``, ``f_df`` and ``f_p`` the F-test of all pairs together.
    """

    pairs: pd.DataFrame
    sets: int
    terms: int
    left_out: int
    additive: float
    f: float = float("nan")
    f_df: tuple[int, int] = (0, 0)
    f_p: float = float("nan")


def interactions_of(names: Sequence[str], samples: Mapping[int, Sample]) -> Interactions | None:
    """Return the least-squares model of the means of the measured sets; None if they do not determine main effects.

    Changes are coded -½ and +½, so that a pair's coefficient is v(both) - v(one) - v(other) + v(neither). The residuals
    hold lack of fit and seed noise; standard errors and tests are against both.
    """
    masks = np.array(sorted(samples))
    means = np.array([np.mean(list(samples[mask].values())) for mask in masks])
    mains, products, pairs = _model_columns(masks, len(names))
    if len(masks) <= mains.shape[1] or np.linalg.matrix_rank(mains) < mains.shape[1]:
        return None
    residuals = means - mains @ np.linalg.lstsq(mains, means, rcond=None)[0]
    unexplained = (residuals @ residuals) / (len(masks) - mains.shape[1]) / means.var(ddof=1)
    columns = np.hstack([mains, products])
    table = pd.DataFrame([(names[i], names[j]) for i, j in pairs], columns=["first", "second"])
    left_out = len(names) * (len(names) - 1) // 2 - len(pairs)
    common = (len(masks), columns.shape[1], left_out, float(1 - unexplained))
    if not pairs or len(masks) <= columns.shape[1] or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return Interactions(table[:0], *common)
    fitted = PairModel(mains, products)
    estimate, se, f = (each[0] for each in fitted.fit(means[None]))
    p, p_corrected, f_p = fitted.p_values(means)
    table = table.assign(estimate=estimate, se=se, p=p, p_corrected=p_corrected)
    return Interactions(table, *common, float(f), (len(pairs), len(masks) - columns.shape[1]), f_p)


class PairModel:
    """Least squares of main effects, columns ``mains``, and pairs, columns ``products``."""

    def __init__(self, mains: np.ndarray, products: np.ndarray):
        self.mains = np.linalg.qr(mains)[0]
        self.all, triangle = np.linalg.qr(np.hstack([mains, products]))
        self.pairs, self.df = products.shape[1], len(mains) - triangle.shape[0]
        self.solve = np.linalg.solve(triangle, self.all.T)[-self.pairs :]
        # a set that alone determines a coefficient has a residual of 0, which says nothing about its noise
        self.left = np.maximum(1 - (self.all**2).sum(axis=1), 1e-12)

    def fit(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs' coefficients and HC3 standard errors, (rows, pairs), and F, (rows,), of ``values``.

        ``values`` is (rows, sets). HC3 (MacKinnon and White 1985) allows each set its own variance.
        """
        residuals = values - (values @ self.all) @ self.all.T
        additive = values - (values @ self.mains) @ self.mains.T
        error = (residuals**2).sum(axis=1)
        f = ((additive**2).sum(axis=1) - error) / self.pairs / (error / self.df)
        variance = np.where(self.left > 1e-9, (residuals / self.left) ** 2, 1e24) @ (self.solve**2).T
        return values @ self.solve.T, np.sqrt(variance), f

    def p_values(self, values: np.ndarray, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the p-value of each pair, (pairs,), the same corrected for all, and that of the F-test.

        By the wild bootstrap with the null imposed (Wu 1986; Davidson and Flachaire 2008): additive values plus the
        residuals of the additive model with random signs. The correction is by the largest t of each draw (Westfall and
        Young 1993). The seed is fixed.
        """
        additive = (values @ self.mains) @ self.mains.T
        scaled = (values - additive) / np.sqrt(np.maximum(1 - (self.mains**2).sum(axis=1), 1e-12))
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(values)))
        estimates, se, f = self.fit(np.vstack([values, additive + signs * scaled]))
        t = np.abs(estimates) / np.maximum(se, 1e-12)
        single = (1 + (t[1:] >= t[0]).sum(axis=0)) / (draws + 1)
        corrected = (1 + (t[1:].max(axis=1)[:, None] >= t[0]).sum(axis=0)) / (draws + 1)
        return single, corrected, float((1 + (f[1:] >= f[0]).sum()) / (draws + 1))


def explained(values: np.ndarray) -> tuple[float, float]:
    """Return the shares of the variance of a game's ``values``, (2**n,), that main effects explain, and with pairs.

    Sets whose value is NaN do not count. NaN if all others have one value.
    """
    masks = np.nonzero(~np.isnan(values))[0]
    known = values[masks] - values[masks].mean()
    if np.abs(known).max() <= 1e-9 * np.abs(values[masks]).max():
        return float("nan"), float("nan")
    mains, products, _ = _model_columns(masks, len(values).bit_length() - 1)
    models = (mains, np.hstack([mains, products]))
    residuals = [known - columns @ np.linalg.lstsq(columns, known, rcond=None)[0] for columns in models]
    by_mains, with_pairs = (float(1 - (residual @ residual) / (known @ known)) for residual in residuals)
    return by_mains, with_pairs


def _model_columns(masks: np.ndarray, changes: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Return the constant with main effects, (sets, n + 1), and the products, (sets, pairs), of complete pairs."""
    coded = (masks[:, None] >> np.arange(changes) & 1) - 0.5
    pairs = [(i, j) for i, j in combinations(range(changes), 2) if len(np.unique(coded[:, [i, j]], axis=0)) == 4]
    products = np.array([coded[:, i] * coded[:, j] for i, j in pairs]).reshape(len(pairs), len(masks)).T
    return np.hstack([np.ones((len(masks), 1)), coded]), products, pairs
