"""Gaps tested again after each seed, at an error rate that holds however seeds are given and whenever one stops.

A gap is tested at every number of seeds n that both steps have reached, over the first n seeds of both, by Welch's test
with variances moderated by the prior of the starting seeds (``moderation.prior_of``). So its p-values do not depend on
which gaps were given more seeds. The test at n spends the share start / (n (n + 1)) of the error rate, where ``start``
is the number of seeds that all steps start with. The shares of all n add up to 1, so the smallest p-value divided by
its share is a valid p-value at any time, and is corrected for the number of gaps like any other.

Shares of the error rate: Lan and DeMets (1983), doi:10.1093/biomet/70.3.659. Without a last look: Darling and Robbins
(1967), doi:10.1073/pnas.58.1.66. Several hypotheses: Maurer and Bretz (2013), doi:10.1080/19466315.2013.807748.
tests/statistics/until_simulation.py simulates error rates and power.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from roadmap.statistics.correction import ALPHA, holm
from roadmap.statistics.gaps import BETTER, EQUAL, UNDECIDED, WORSE
from roadmap.statistics.moderation import NO_VARIANCE, prior_of, shrunk
from roadmap.statistics.power import gap_error

MOST_SEEDS = 50  # of one step: a gap that these do not decide stays undecided


def share(n: np.ndarray, start: int) -> np.ndarray:
    """Return the share of the error rate that the test at ``n`` seeds spends."""
    return start / (n * (n + 1.0))


@dataclass(frozen=True)
class SequentialGaps:
    """Gaps over the seeds so far.

    ``values`` (..., steps, seeds) are the accuracies of each step in percent, in the order of its seeds, NaN where
    there is none yet; all steps have the first ``start`` seeds, at least 2. ``pairs`` (gaps, 2) are the positions of
    each gap's step and the step before it. ``equivalence`` is the bound of gaps that count as equal, in percentage
    points. P-values are corrected for at least ``family`` gaps.
    """

    values: np.ndarray
    pairs: np.ndarray
    start: int
    equivalence: float | None = None
    family: int = 0

    @property
    def _tested(self) -> int:
        return max(len(self.pairs), self.family)

    @cached_property
    def looks(self) -> np.ndarray:
        """The numbers of seeds at which gaps are tested."""
        return np.arange(self.start, self.values.shape[-1] + 1)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the first n seeds of each step, (..., steps, looks)."""
        first = self.values[..., :1]
        values, n = self.values - first, np.arange(1, self.values.shape[-1] + 1)
        sums = values.cumsum(axis=-1)
        squares = (values**2).cumsum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.maximum(squares - sums**2 / n, 0) / (n - 1)
        return (first + sums / n)[..., self.start - 1 :], variance[..., self.start - 1 :]

    @cached_property
    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance and degrees of freedom of the prior, of the starting seeds only, (..., 1, 1)."""
        variance = self._moments[1][..., 0]
        prior, df = prior_of(variance, np.full(variance.shape[-1], self.start - 1))
        return prior[..., None, None], df[..., None, None]

    def _error(self, own: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard error and degrees of freedom of gaps at ``n`` seeds, from variances (..., gaps, n, 2)."""
        prior, prior_df = (value[..., None] for value in self._prior)
        df = np.broadcast_to((n - 1.0)[:, None], own.shape)
        most = self.values.shape[-2] * (self.start - 1) + 2.0 * (n - self.start)
        error, gap_df = gap_error(shrunk(own, df, prior, prior_df), np.repeat(n[:, None], 2, 1), prior_df + df)
        return np.where(error**2 > NO_VARIANCE, error, np.nan), np.minimum(gap_df, most)

    @cached_property
    def _tests(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gap, standard error and degrees of freedom at each look, (..., gaps, looks); NaN where there are no seeds."""
        mean, variance = self._moments
        delta = mean[..., self.pairs[:, 0], :] - mean[..., self.pairs[:, 1], :]
        own = np.stack([variance[..., self.pairs[:, side], :] for side in (0, 1)], axis=-1)
        return delta, *self._error(own, self.looks)

    @cached_property
    def n(self) -> np.ndarray:
        """The number of seeds that both steps of each gap have, (..., gaps)."""
        return np.isfinite(self.values).sum(axis=-1)[..., self.pairs].min(axis=-1)

    def _smallest(self, p: np.ndarray) -> np.ndarray:
        """The smallest p-value divided by its share, (..., gaps)."""
        return np.minimum(np.fmin.reduce(p / share(self.looks, self.start), axis=-1, initial=1.0), 1.0)

    @cached_property
    def p(self) -> np.ndarray:
        """P-values of gaps of 0, valid at any time, not corrected for the number of gaps, (..., gaps)."""
        from scipy.special import stdtr

        delta, error, df = self._tests
        return self._smallest(2 * stdtr(df, -np.abs(delta) / error))

    @cached_property
    def equal_p(self) -> np.ndarray:
        """P-values of gaps of ``equivalence`` or more, likewise; 1 without it."""
        from scipy.special import stdtr

        delta, error, df = self._tests
        if self.equivalence is None:
            return np.ones(self.p.shape)
        return self._smallest(stdtr(df, (np.abs(delta) - self.equivalence) / error))

    @cached_property
    def corrected(self) -> np.ndarray:
        """``p`` corrected by Holm's method; with ``equivalence`` by Bonferroni's, because a gap that is different may
        still be called equal, so that the number of possible errors does not become smaller.
        """
        return holm(self.p, self._tested) if self.equivalence is None else np.minimum(self.p * self._tested, 1)

    @cached_property
    def equal_corrected(self) -> np.ndarray:
        """``equal_p`` corrected by Bonferroni's method."""
        return np.minimum(self.equal_p * self._tested, 1)

    @property
    def decided(self) -> np.ndarray:
        """Whether each gap is decided, (..., gaps)."""
        return (self.corrected < ALPHA) | (self.equal_corrected < ALPHA)

    @cached_property
    def delta(self) -> np.ndarray:
        """The gap over the seeds that both steps have, (..., gaps)."""
        return np.take_along_axis(self._tests[0], self.n[..., None] - self.start, axis=-1)[..., 0]

    @cached_property
    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of intervals that hold for all gaps, at all times, with 95 % probability, (..., gaps).

        They are the intersection of the intervals of all looks.
        """
        from scipy.special import stdtrit

        delta, error, df = self._tests
        half = stdtrit(df, 1 - ALPHA / 2 * share(self.looks, self.start) / self._tested) * error
        return np.fmax.reduce(delta - half, axis=-1), np.fmin.reduce(delta + half, axis=-1)

    @property
    def outcomes(self) -> list[str]:
        """``equal`` (within the equivalence), ``better``, ``worse`` or ``undecided``, of each gap of one study."""
        found = np.where(self.corrected < ALPHA, np.where(self.delta > 0, BETTER, WORSE), UNDECIDED)
        return list(np.where(self.equal_corrected < ALPHA, EQUAL, found))

    @cached_property
    def seeds_to_decide(self) -> np.ndarray:
        """The number of seeds at which each gap will be decided if it and its variances are those observed, (gaps,).

        Infinite beyond ``MOST_SEEDS``.
        """
        from scipy.special import stdtr

        n = np.arange(self.start + 1.0, MOST_SEEDS + 1)
        place = self.n - self.start
        rows = np.arange(len(self.pairs))
        own = np.stack([self._moments[1][self.pairs[:, side], place] for side in (0, 1)], axis=-1)
        error, df = self._error(np.repeat(own[:, None], len(n), axis=1), n)
        delta = np.abs(self._tests[0][rows, place])[:, None]
        undecided = self._tested - (0 if self.equivalence is not None else int((self.corrected < ALPHA).sum()))
        level = ALPHA / max(undecided, 1) * share(n, self.start)
        enough = 2 * stdtr(df, -delta / error) < level
        if self.equivalence is not None:
            enough |= stdtr(df, (delta - self.equivalence) / error) < level
        enough &= n > self.n[:, None]
        return np.where(enough.any(axis=1), n[enough.argmax(axis=1)], np.inf)

    def next_steps(self, count: int, most: float) -> list[int]:
        """Return the steps, by position, that get the next seed; none if all gaps are decided.

        Gaps come in the order of the runs that will probably decide them, then the one with fewer seeds. Each adds the
        one or two steps that its next test needs, until there are ``count``, of which at most ``most`` are allowed.
        """
        have = np.isfinite(self.values).sum(axis=-1)
        missing = np.maximum(self.seeds_to_decide[:, None] - have[self.pairs], 0).sum(axis=1)
        order = np.lexsort((self.p, self.n, missing))
        chosen: dict[int, None] = {}
        for gap in order:
            if self.decided[gap] or self.n[gap] >= MOST_SEEDS:
                continue
            wanted = [step for step in self.pairs[gap].tolist() if have[step] == self.n[gap]]
            joined = chosen | dict.fromkeys(wanted)
            if len(joined) <= most and len(chosen) < count:
                chosen = joined
        return list(chosen)


def in_order(samples: Sequence[Sequence[float]]) -> np.ndarray:
    """Return accuracies of different numbers of seeds as an array padded with NaN."""
    longest = max(map(len, samples))
    return np.array([[*sample, *[np.nan] * (longest - len(sample))] for sample in samples])
