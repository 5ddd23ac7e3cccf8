"""Correction of p-values for the number of tests, within the family that was declared before the runs."""

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
CORRECTION_NAMES = {"holm": "Holm", "bh": "BH"}


def holm(p: np.ndarray, tests: int) -> np.ndarray:
    """Return the p-values of the last axis corrected for ``tests`` tests, of which the others found nothing.

    Holm (1979), jstor.org/stable/4615733.
    """
    order = np.argsort(p, axis=-1)
    factors = tests - np.arange(p.shape[-1])
    ordered = np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * factors, axis=-1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(ordered, 1), axis=-1)
    return corrected


def benjamini_hochberg(p: np.ndarray, tests: int) -> np.ndarray:
    """Return p-values that bound the expected share of false claims, as ``holm`` does that of any.

    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(np.append(p, np.ones(tests - len(p))))[: len(p)])


@dataclass(frozen=True)
class Families:
    """Of the ``known`` gaps, the ``declared`` are corrected among themselves and the others among all.

    At least ``size`` gaps were declared; those without a test count as tests that found nothing.
    """

    known: np.ndarray
    declared: np.ndarray
    size: int

    @property
    def _parts(self) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Rows to correct, rows that they are corrected with, and the number of tests."""
        declared, others = self.known & self.declared, self.known & ~self.declared
        most = max(int(declared.sum()), self.size)
        parts = [(declared, declared, most), (others, self.known, most + int(others.sum()))]
        return [part for part in parts if part[0].any()]

    def corrected(self, p: np.ndarray, correction: str) -> np.ndarray:
        """Return corrected p-values; NaN for gaps without a test."""
        adjust = holm if correction == "holm" else benjamini_hochberg
        found = np.full(len(p), np.nan)
        for rows, among, tests in self._parts:
            of_all = np.full(len(p), np.nan)
            of_all[among] = adjust(p[among], tests)
            found[rows] = of_all[rows]
        return found

    def next_level(self, significant: np.ndarray, correction: str) -> np.ndarray:
        """Return the level at which one more gap of each row's family becomes significant."""
        level = np.full(len(significant), np.nan)
        for rows, among, tests in self._parts:
            found = int(significant[among].sum())
            level[rows] = ALPHA * (found + 1) / tests if correction == "bh" else ALPHA / max(tests - found, 1)
        return level
