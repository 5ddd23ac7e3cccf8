"""Shapley values estimated from measured sets: some orders of many, some seeds of each set, and the error of both.

Every estimate is a linear combination Σ w[S] · mean(S) of the sets' means over seeds. Its variance has two parts.

Seed noise: Σ w[S]² · s[S]² / n[S], with s[S]² the variance over the n[S] seeds of a set; a set that many orders share
counts once with all its weight. A set with one seed has the variance of the others, pooled. What a seed does to all
sets alike cancels in the estimate, whose weights sum to 0; it is taken out of the variances where all sets have the
same seeds, and is left in, so that the interval is rather too wide, where they have not. Beyond that sets are taken as
independent: what a seed does to all sets with one change and to none without it would not average out over the sets;
``seed_ratio`` is how to see it.

Where no set has two seeds, seed noise is unknown, and the spread between orders is from both in unknown shares. The
error is then that of the one share, all orders or all noise, that makes it greater.

Which orders were drawn: the variance between the orders' own values, less what seed noise is expected to contribute to
it, at least 0, divided by the number of orders and multiplied by the share of the feasible orders that was not drawn
(sampling without replacement): 0 when all are there.

Intervals are Student's, their degrees of freedom Satterthwaite's for this sum of variances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from roadmap.attribution import shapley
from roadmap.comparison.statistics import CONFIDENCE, Sample

Array = np.ndarray


@dataclass(frozen=True)
class Estimate:
    """Of n changes, arrays (n,) in the unit of the samples; NaN is unknown.

    ``low`` to ``high`` is the 95 % interval, of each change by itself, ``df`` its degrees of freedom. ``se`` is the
    standard error, of which ``se_orders`` comes from which orders were drawn and ``se_seeds`` from seed noise; where no
    set has two seeds these two are unknown, and ``se`` is a cautious guess. ``seed_ratio`` is the variance between the
    estimates of single seeds over what independent sets would give them, near 1 where they are independent, with
    p-values ``seed_ratio_p``, each by itself; NaN unless all sets share two seeds.
    """

    values: Array
    se: Array
    low: Array
    high: Array
    df: Array
    se_orders: Array
    se_seeds: Array
    seed_ratio: Array
    seed_ratio_p: Array


@dataclass(frozen=True)
class MeasuredSets:
    """Measured sets: of each mask, (2**n,), the mean and number of its values.

    ``samples`` are those of the first masks; ``variances`` and ``freedoms``, (r,), are those of the ``repeated`` masks,
    with more than one value.
    """

    samples: Mapping[int, Sample]
    means: Array
    counts: Array
    repeated: Array
    variances: Array
    freedoms: Array

    @classmethod
    def of(cls, samples: Mapping[int, Sample], same: Array, used: Array) -> "MeasuredSets":
        """``samples`` are seed → value of each measured mask; ``same``, (2**n,), has for each the first equal to it.

        Equal masks are the same measurement, as when a change does nothing next to another. Only the masks ``used`` are
        kept. Raises ValueError if one of them has no value.
        """
        wanted = set(same[used].ravel().tolist())
        firsts = {int(same[mask]): sample for mask, sample in samples.items() if len(sample) and same[mask] in wanted}
        if firsts.keys() != wanted:
            raise ValueError("a set of these orders has no value")
        means, counts = np.full(len(same), np.nan), np.zeros(len(same), int)
        for mask, sample in firsts.items():
            means[mask], counts[mask] = np.mean(list(sample.values())), len(sample)
        repeated = np.nonzero(counts > 1)[0]
        values, share = _without_seeds(firsts, repeated.tolist())
        variances = np.array([np.var(row, ddof=1) / share for row in values])
        return cls(firsts, means[same], counts[same], repeated, variances, (counts[repeated] - 1) * share)

    def on_variances(self, shares: Array) -> Array:
        """Σ shares[S] · var(S) / n[S], (n, 2**n) over all sets, as coefficients (n, r) of the known variances."""
        each = np.where(shares != 0, shares / np.maximum(self.counts, 1), 0)
        alone = np.where(self.counts < 2, each, 0).sum(axis=1)
        return each[:, self.repeated] + alone[:, None] * self.freedoms / max(self.freedoms.sum(), 1)

    def seed_ratios(self, weights: Array) -> tuple[Array, Array]:
        """The variance between the estimates of single seeds over what independent sets would give them, (n,).

        With p-values, each by itself; NaN unless all sets used share two seeds and differ between seeds.
        """
        used = np.nonzero((weights != 0).any(axis=0))[0].tolist()
        seeds = sorted(set.intersection(*(set(self.samples[mask]) for mask in used))) if used else []
        if len(seeds) < 2:
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        from scipy.special import chdtrc

        values = np.array([[self.samples[mask][seed] for seed in seeds] for mask in used])
        found = (weights[:, used] @ values).var(axis=1, ddof=1)
        expected = weights[:, used] ** 2 @ values.var(axis=1, ddof=1)
        ratios = found / np.where(expected > 0, expected, np.nan)
        return ratios, chdtrc(len(seeds) - 1, (len(seeds) - 1) * ratios)


def _without_seeds(samples: Mapping[int, Sample], masks: Sequence[int]) -> tuple[list[Array], float]:
    """The values of some sets, less what a seed does to all sets on average where all have the same seeds.

    And the share of a set's own variance and degrees of freedom that this leaves.
    """
    values = [np.array([samples[mask][seed] for seed in sorted(samples[mask])]) for mask in masks]
    if len(samples) < 2 or len({frozenset(sample) for sample in samples.values()}) > 1 or not values:
        return values, 1.0
    return list(np.array(values) - np.mean(values, axis=0)), 1 - 1 / len(values)


def from_all_sets(feasible: Array, samples: Mapping[int, Sample], same: Array | None = None) -> Estimate:
    """Return the Shapley values if every set of every order has been measured; only seed noise is left.

    ``feasible`` and ``same`` are (2**n,), the latter as in ``MeasuredSets.of`` (None: all sets differ); ``samples``
    are seed → value of each mask. Raises ValueError if a set is missing.
    """
    same = np.arange(len(feasible)) if same is None else same
    exact = shapley.weights(feasible)
    sets = MeasuredSets.of(samples, same, np.nonzero((exact != 0).any(axis=0))[0])
    weights = np.zeros_like(exact)
    np.add.at(weights.T, same, exact.T)
    unknown = np.full(len(weights), np.nan)
    return _estimate(weights, sets, unknown, np.zeros_like(weights), 0.0, round(shapley.orders(feasible)))


def from_orders(
    orders: Sequence[Sequence[int]],
    feasible: Array,
    samples: Mapping[int, Sample],
    same: Array | None = None,
) -> Estimate:
    """Return the Shapley values from some of the feasible orders, drawn at random, all sets of which were measured.

    An order lists the changes' numbers in the order in which they join; duplicates count once. The other arguments are
    those of ``from_all_sets``. Raises ValueError if a set is missing or there is no order.
    """
    drawn = np.array(list(dict.fromkeys(map(tuple, orders))))
    same = np.arange(len(feasible)) if same is None else same
    number, players = drawn.shape
    after = np.cumsum(1 << drawn, axis=1)
    before, after = same[after - (1 << drawn)], same[after]
    sets = MeasuredSets.of(samples, same, np.union1d(before, after))
    marginals = np.zeros((number, players))
    np.put_along_axis(marginals, drawn, sets.means[after] - sets.means[before], axis=1)
    weights, visits = np.zeros((players, len(feasible))), np.zeros((players, len(feasible)))
    for place, sign in ((after, 1), (before, -1)):
        np.add.at(weights, (drawn, place), sign / number)
        np.add.at(visits, (drawn, place), after != before)
    between = marginals.var(axis=0, ddof=1) if number > 1 else np.full(players, np.nan)
    # what independent noise of the sets is expected to add to the variance between orders
    noise = (visits - number * weights**2) / max(number - 1, 1)
    factor = max(1 - number / shapley.orders(feasible), 0) / number
    return _estimate(weights, sets, between, noise, factor, number)


def _estimate(weights: Array, sets: MeasuredSets, between: Array, noise: Array, factor: float, number: int) -> Estimate:
    """The estimate from ``number`` orders and its interval.

    The variance from which orders were drawn is ``factor`` times ``between``, the variance between orders, less its
    share of seed noise, ``noise``.
    """
    from scipy.special import stdtrit

    values = weights @ np.nan_to_num(sets.means)
    by_orders = by_seeds = np.full(len(values), np.nan)
    if len(sets.repeated):
        by_orders, by_seeds, df = _variances(weights, sets, between, noise, factor, number)
        se = np.sqrt(by_orders + by_seeds)
    else:
        # the spread between orders is from both, in unknown shares: take the one that gives the greater error
        shared = (weights**2).sum(axis=1) / np.where(noise.any(axis=1), noise.sum(axis=1), np.nan)
        se, df = np.sqrt(between * np.fmax(factor, shared)), np.full(len(values), number - 1)
    # values without any spread say nothing about noise
    half = stdtrit(np.maximum(df, 1), (1 + CONFIDENCE) / 2) * np.where(se > 1e-9, se, np.nan)
    df = np.where(np.isnan(half), np.nan, df)
    errors = (np.sqrt(by_orders), np.sqrt(by_seeds))
    return Estimate(values, se, values - half, values + half, df, *errors, *sets.seed_ratios(weights))


def _variances(
    weights: Array, sets: MeasuredSets, between: Array, noise: Array, factor: float, number: int
) -> tuple[Array, Array, Array]:
    """The variance from which orders were drawn, that from seed noise, and Satterthwaite's degrees of freedom."""
    seeds, share = sets.on_variances(weights**2), sets.on_variances(noise)
    drawn = factor * (between - share @ sets.variances) if factor else np.zeros(len(weights))
    floored = drawn <= 0
    # the sum's coefficients of each variance, whose own variances make the degrees of freedom
    mixed = np.where(floored[:, None], seeds, seeds - factor * share)
    spread = mixed**2 @ (sets.variances**2 / sets.freedoms)
    spread += np.where(floored, 0, (factor * between) ** 2 / max(number - 1, 1)) if factor else 0
    by_orders, by_seeds = np.where(floored, 0, drawn), seeds @ sets.variances
    with np.errstate(divide="ignore", invalid="ignore"):
        return by_orders, by_seeds, (by_orders + by_seeds) ** 2 / spread
