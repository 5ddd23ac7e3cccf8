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
    p-values ``seed_ratio_p``, each by itself; NaN unless all sets share two seeds. ``orders`` is the number of orders
    used and ``feasible_orders`` that of all there are.
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
    orders: int
    feasible_orders: float


@dataclass(frozen=True)
class Sets:
    """Measured sets: of each mask, (2**n,), the mean and number of its values, and ``same``, the first equal mask.

    ``samples`` are those of the first masks; ``variances`` and ``freedoms``, (r,), are those of the ``repeated`` masks,
    with more than one value.
    """

    samples: Mapping[int, Sample]
    means: Array
    counts: Array
    same: Array
    repeated: Array
    variances: Array
    freedoms: Array

    @classmethod
    def of(cls, samples: Mapping[int, Sample], same: Array) -> "Sets":
        """``samples`` are seed → value of each measured mask; ``same``, (2**n,), has for each the first equal to it.

        Equal masks are the same measurement, as where a change does nothing beside another.
        """
        firsts = {int(same[mask]): sample for mask, sample in samples.items() if len(sample)}
        means, counts = np.full(len(same), np.nan), np.zeros(len(same), int)
        for mask, sample in firsts.items():
            means[mask], counts[mask] = np.mean(list(sample.values())), len(sample)
        repeated = np.nonzero(counts > 1)[0]
        values, share = _without_seeds(firsts, repeated.tolist())
        variances = np.array([np.var(row, ddof=1) / share for row in values])
        return cls(firsts, means[same], counts[same], same, repeated, variances, (counts[repeated] - 1) * share)

    def merged(self, weights: Array) -> Array:
        """Weights, (n, 2**n), with those of equal masks on the first of them."""
        total = np.zeros_like(weights)
        np.add.at(total.T, self.same, weights.T)
        return total

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
    """The Shapley values where every set that an order leads through has been measured; seed noise alone is left.

    ``feasible`` and ``same`` are (2**n,), the latter as of ``Sets.of``, none meaning that all sets differ; ``samples``
    are seed → value of each mask. Raises ValueError where a set is missing.
    """
    same = np.arange(len(feasible)) if same is None else same
    reached = (shapley.weights(feasible) != 0).any(axis=0)
    sets = Sets.of(_only(samples, same[reached]), same)
    weights = sets.merged(shapley.weights(feasible))
    if np.isnan(sets.means[reached]).any():
        raise ValueError("a set that an order leads through has no value")
    number = shapley.orders(feasible)
    unknown = np.full(len(weights), np.nan)
    return _estimate(weights, sets, unknown, np.zeros_like(weights), 0.0, (round(number), number))


def from_orders(
    orders: Sequence[Sequence[int]],
    feasible: Array,
    samples: Mapping[int, Sample],
    same: Array | None = None,
) -> Estimate:
    """The Shapley values from some of the feasible orders, drawn at random, every set of which has been measured.

    An order is the changes' numbers in the order of joining; one that is there twice counts once. The other arguments
    are those of ``from_all_sets``. Raises ValueError where a set is missing or there is no order.
    """
    drawn = np.array(list(dict.fromkeys(map(tuple, orders))))
    same = np.arange(len(feasible)) if same is None else same
    number, players = drawn.shape
    after = np.cumsum(1 << drawn, axis=1)
    before, after = same[after - (1 << drawn)], same[after]
    sets = Sets.of(_only(samples, np.union1d(before, after)), same)
    if np.isnan(sets.means[before]).any() or np.isnan(sets.means[after]).any():
        raise ValueError("a set of these orders has no value")
    marginals = np.zeros((number, players))
    np.put_along_axis(marginals, drawn, sets.means[after] - sets.means[before], axis=1)
    weights, visits = np.zeros((players, len(feasible))), np.zeros((players, len(feasible)))
    for place, sign in ((after, 1), (before, -1)):
        np.add.at(weights, (drawn, place), sign / number)
        np.add.at(visits, (drawn, place), after != before)
    between = marginals.var(axis=0, ddof=1) if number > 1 else np.full(players, np.nan)
    # what independent noise of the sets is expected to add to the variance between orders
    noise = (visits - number * weights**2) / max(number - 1, 1)
    total = shapley.orders(feasible)
    left = max(1 - number / total, 0) / number
    return _estimate(weights, sets, between, noise, left, (number, total))


def _only(samples: Mapping[int, Sample], masks: Array) -> dict[int, Sample]:
    wanted = set(masks.tolist())
    return {mask: sample for mask, sample in samples.items() if mask in wanted}


def _estimate(
    weights: Array, sets: Sets, between: Array, noise: Array, left: float, orders: tuple[int, float]
) -> Estimate:
    """The estimate and its interval; ``between`` counts ``left`` times, after the share ``noise`` has in it."""
    values = weights @ np.nan_to_num(sets.means)
    number, total = orders
    ratios = sets.seed_ratios(weights)
    unknown = np.full(len(values), np.nan)
    by_orders, by_seeds = unknown, unknown
    if len(sets.repeated):
        by_orders, by_seeds, df = _parts(weights, sets, between, noise, left, number)
        se = np.sqrt(by_orders + by_seeds)
    else:
        # the spread between orders is from both, in unknown shares: the one that leaves the greater error
        shared = (weights**2).sum(axis=1) / np.where(noise.any(axis=1), noise.sum(axis=1), np.nan)
        se, df = np.sqrt(between * np.fmax(left, shared)), np.full(len(values), number - 1)
    low, high, df = _interval(values, se, df)
    return Estimate(values, se, low, high, df, np.sqrt(by_orders), np.sqrt(by_seeds), *ratios, number, total)


def _parts(
    weights: Array, sets: Sets, between: Array, noise: Array, left: float, number: int
) -> tuple[Array, Array, Array]:
    """The variance from which orders were drawn, that from seed noise, and Satterthwaite's degrees of freedom."""
    seeds, share = sets.on_variances(weights**2), sets.on_variances(noise)
    drawn = left * (between - share @ sets.variances) if left else np.zeros(len(weights))
    floored = drawn <= 0
    # the sum's coefficients of each variance, whose own variances make the degrees of freedom
    mixed = np.where(floored[:, None], seeds, seeds - left * share)
    spread = mixed**2 @ (sets.variances**2 / sets.freedoms)
    spread += np.where(floored, 0, (left * between) ** 2 / max(number - 1, 1)) if left else 0
    by_orders, by_seeds = np.where(floored, 0, drawn), seeds @ sets.variances
    with np.errstate(divide="ignore", invalid="ignore"):
        return by_orders, by_seeds, (by_orders + by_seeds) ** 2 / spread


def _interval(values: Array, se: Array, df: Array) -> tuple[Array, Array, Array]:
    from scipy.special import stdtrit

    # values without any spread say nothing about noise
    known = np.where(se > 1e-9, se, np.nan)
    half = stdtrit(np.maximum(df, 1), (1 + CONFIDENCE) / 2) * known
    return values - half, values + half, np.where(np.isnan(half), np.nan, df)
