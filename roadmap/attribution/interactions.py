"""Whether what a change does depends on the others: additive and pairwise models of the measured sets.

The model of a set's value is a constant, a main effect of each change and one of each two changes, every change coded
-1/2 without and +1/2 with it: a main effect is what the change adds half way between none and all of the others, a
pair's coefficient is what the two add beyond each alone, v(ij) - v(i) - v(j) + v(), at any set of the others.

Least squares on the means of the sets, each counting once. The residuals hold what three and more changes do together
(lack of fit) and seed noise, both; standard errors, t- and F-tests are against the two, so they are valid where the
sets are a random sample of all, and say nothing where few sets are left beyond the terms. They are no test against
seed noise alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from roadmap.comparison.statistics import ALPHA, Sample

Array = np.ndarray


@dataclass(frozen=True)
class Interactions:
    """Of measured sets.

    ``pairs`` has a row for each two changes whose four combinations have been measured: ``first``, ``second``,
    ``estimate`` with standard error ``se``, in the unit of the values, ``p`` and ``p_holm``; empty where there are not
    more ``sets`` than ``terms`` of the model. ``left_out``: pairs without all four combinations. ``additive``: the
    share of the variance between sets, beyond what seed noise gives their means, that main effects explain (NaN where
    there is none beyond it; the adjusted R² where noise is unknown); ``noise``: the share that is seed noise. ``f``,
    ``f_df`` and ``f_p``: the F-test of all pairs together.
    """

    pairs: pd.DataFrame
    sets: int
    terms: int
    left_out: int
    additive: float
    noise: float
    f: float
    f_df: tuple[int, int]
    f_p: float

    def sentence(self) -> str:
        """Whether interactions are large, in one plain sentence."""
        if self.noise >= 1:
            return (
                f"interactions: the {self.sets} designs differ no more than seed noise makes them, so these runs say "
                "nothing of interactions"
            )
        share = f"interactions: by themselves the changes explain {_percent(self.additive)} of the variance between "
        share += f"{self.sets} designs"
        if np.isnan(self.noise):
            share += " (adjusted R²; with one seed each, seed noise is part of the rest)"
        else:
            share += f" that is not seed noise (seed noise: {_percent(self.noise)} of the whole variance)"
        if np.isnan(self.f):
            return f"{share}; to test pairs takes more than {self.terms} designs"
        test = f"F({self.f_df[0]}, {self.f_df[1]}) = {self.f:.2f}, p {format_p(self.f_p)}"
        if self.f_p >= ALPHA:
            return (
                f"{share}; pairs explain no more than chance would ({test}), which does not prove that there are none"
            )
        told = int((self.pairs["p_holm"] < ALPHA).sum())
        return (
            f"{share}; pairs explain more than chance would ({test}), {told} of {len(self.pairs)} by themselves after "
            "Holm's correction: what a change is worth depends on the others"
        )


def measured(names: Sequence[str], samples: Mapping[int, Sample]) -> Interactions | None:
    """The interactions among the changes ``names`` of the measured sets; None for fewer sets than main effects take."""
    masks = np.array(sorted(samples))
    means = np.array([np.mean(list(samples[mask].values())) for mask in masks])
    mains, pairs, named = _columns(masks, len(names))
    if len(masks) <= mains.shape[1] or np.linalg.matrix_rank(mains) < mains.shape[1]:
        return None
    additive, noise = _additive(mains, means, [list(samples[mask].values()) for mask in masks])
    whole = np.hstack([mains, pairs])
    terms = whole.shape[1]
    left_out = len(names) * (len(names) - 1) // 2 - len(named)
    table, f, f_df, f_p = _empty(), float("nan"), (0, 0), float("nan")
    if named and len(masks) > terms and np.linalg.matrix_rank(whole) == terms:
        table, (f, f_df, f_p) = _fit(mains, whole, means, [(names[i], names[j]) for i, j in named])
    return Interactions(table, len(masks), terms, left_out, additive, noise, f, f_df, f_p)


def explained(values: Array) -> tuple[float, float]:
    """The shares of the variance of a game's known ``values``, (2**n,), that main effects explain, and with pairs.

    Over the sets that are not NaN, with no noise. NaN where all have one value.
    """
    masks = np.nonzero(~np.isnan(values))[0]
    known = values[masks]
    mains, pairs, _ = _columns(masks, len(values).bit_length() - 1)
    total = ((known - known.mean()) ** 2).sum()
    if total <= 1e-18 * (known**2).sum():
        return float("nan"), float("nan")
    left = [_residual(columns, known) for columns in (mains, np.hstack([mains, pairs]))]
    return float(1 - left[0] / total), float(1 - left[1] / total)


def _columns(masks: Array, changes: int) -> tuple[Array, Array, list[tuple[int, int]]]:
    """The constant with main effects, (sets, n + 1), and pairs with all four combinations, (sets, pairs)."""
    coded = (masks[:, None] >> np.arange(changes) & 1) - 0.5
    named = [(i, j) for i, j in combinations(range(changes), 2) if len(np.unique(coded[:, [i, j]], axis=0)) == 4]
    pairs = np.array([coded[:, i] * coded[:, j] for i, j in named]).reshape(len(named), len(masks)).T
    return np.hstack([np.ones((len(masks), 1)), coded]), pairs, named


def _residual(columns: Array, values: Array) -> float:
    fitted = columns @ np.linalg.lstsq(columns, values, rcond=None)[0]
    return float(((values - fitted) ** 2).sum())


def _additive(mains: Array, means: Array, values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The share of the variance beyond seed noise that main effects explain, and the share that is seed noise.

    Both sums of squares are corrected for what noise is expected to add to them: its variance for each degree of
    freedom.
    """
    total = float(((means - means.mean()) ** 2).sum())
    by_mains = total - _residual(mains, means)
    freedoms = [len(sample) - 1 for sample in values]
    if not total:
        return float("nan"), float("nan")
    if not sum(freedoms):
        # the adjusted R²: as if all that is left were noise
        rest = (total - by_mains) / (len(means) - mains.shape[1])
        return 1 - rest / (total / (len(means) - 1)), float("nan")
    pooled = float(sum(np.var(sample) * len(sample) for sample in values)) / sum(freedoms)
    of_mean = pooled * float(np.mean([1 / len(sample) for sample in values]))
    beyond = total - (len(means) - 1) * of_mean
    share = (by_mains - (mains.shape[1] - 1) * of_mean) / beyond if beyond > 0 else float("nan")
    return share, (len(means) - 1) * of_mean / total


def _fit(
    mains: Array, whole: Array, means: Array, named: Sequence[tuple[str, str]]
) -> tuple[pd.DataFrame, tuple[float, tuple[int, int], float]]:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.multitest import multipletests

    fitted = OLS(means, whole).fit()
    f, p, df = fitted.compare_f_test(OLS(means, mains).fit())
    own = slice(mains.shape[1], None)
    table = pd.DataFrame(named, columns=["first", "second"]).assign(
        estimate=fitted.params[own], se=fitted.bse[own], p=fitted.pvalues[own]
    )
    table["p_holm"] = multipletests(table["p"], ALPHA, method="holm")[1]
    return table, (float(f), (int(df), int(fitted.df_resid)), float(p))


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=["first", "second", "estimate", "se", "p", "p_holm"])


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0), 1):.0f} %"


def format_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
