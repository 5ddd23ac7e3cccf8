"""Shapley values if some sets are infeasible: exactly, or estimated from measured sets with their standard errors.

A game of n players is an array of shape (2**n,): entry ``mask`` is the value of the set of players whose bits are 1,
NaN if that set is infeasible. A player's Shapley value is the mean of what it adds over all feasible orders, those
whose every prefix is feasible (Shapley 1953; under precedence constraints Faigle and Kern 1992, Int. J. Game Theory
21). Numbers of orders are float64: sums of positive numbers, so their relative error stays small up to 170!.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from roadmap.errors import RequestError
from roadmap.statistics.gaps import CONFIDENCE, Sample

Array = np.ndarray
FOLDS = 5
PENALTIES = 0.1, 1.0  # of main effects and of pairs, in sets


def exact(values: Array) -> Array:
    """Return the Shapley value, (n,), of each player of a game ``values``, (2**n,).

    Raises RequestError if no order is feasible.
    """
    feasible = ~np.isnan(values)
    # relative to the empty set: the weights sum to 0, and smaller numbers round less
    return weights(feasible) @ np.where(feasible, values - values[0], 0)


def weights(feasible: Array) -> Array:
    """Return ``w``, (n, 2**n), such that each player's Shapley value is Σ w[player, mask] · v(mask).

    ``feasible`` is (2**n,). Raises RequestError if no order is feasible.
    """
    before, after = _paths(feasible)
    masks, players = np.arange(len(feasible)), _players(feasible)
    shares = np.zeros((players, len(feasible)))
    for player in range(players):
        without = masks[masks >> player & 1 == 0]
        joined = without | 1 << player
        share = before[without] * after[joined] / before[-1]
        shares[player, joined] = share
        shares[player, without] = -share
    return shares


def orders(feasible: Array) -> float:
    """Return the number of feasible orders: n! if all sets are feasible."""
    return float(_paths(feasible)[0][-1])


def interactions(values: Array) -> Array:
    """Return what each two players add beyond each alone, (n, n): the Shapley interaction index of ``values``, (2**n,).

    It is the mean of v(S+i+j) - v(S+i) - v(S+j) + v(S), weighted by the feasible orders in which i and j follow S one
    after the other (Owen 1972; Grabisch and Roubens 1999), over the sets S for which all four are feasible. NaN on the
    diagonal, and for two players of which one needs the other. Raises RequestError if no order is feasible.
    """
    before, after = _paths(~np.isnan(values))
    masks, players = np.arange(len(values)), _players(values)
    found = np.full((players, players), np.nan)
    for i in range(players):
        for j in range(i):
            without = masks[(masks >> i & 1 == 0) & (masks >> j & 1 == 0)]
            both = without | 1 << i | 1 << j
            second = values[both] - values[without | 1 << i] - values[without | 1 << j] + values[without]
            share = np.where(np.isnan(second), 0, before[without] * after[both])
            if share.sum() > 0:
                found[i, j] = found[j, i] = share @ np.nan_to_num(second) / share.sum()
    return found


def _players(sets: Array) -> int:
    return len(sets).bit_length() - 1


def _paths(feasible: Array) -> tuple[Array, Array]:
    """Return for each set the number of feasible ways from the empty set to it, and from it to the full set."""
    before = _paths_up(feasible)
    if not before[-1]:
        raise RequestError("no order of these changes is feasible: each begins with options that do not go together")
    # down from the full set is up from the empty set among the complements
    return before, _paths_up(feasible[::-1])[::-1]


def _paths_up(feasible: Array) -> Array:
    masks, players = np.arange(len(feasible)), _players(feasible)
    sizes = np.bitwise_count(masks)
    ways = np.zeros(len(feasible))
    ways[0] = feasible[0]
    for size in range(1, players + 1):
        level = masks[(sizes == size) & feasible]
        for player in range(players):
            joined = level[level >> player & 1 == 1]
            ways[joined] += ways[joined ^ 1 << player]
    return ways


@dataclass(frozen=True)
class Estimate:
    """Shapley values of n changes, arrays (n,) in the unit of the samples; NaN is unknown.

    ``low`` to ``high`` is the 95 % interval. The variance ``se``² is that of the sampled orders, ``se_orders``², plus
    that of seed noise, ``se_seeds``²; both are unknown if no set has two seeds.
    """

    values: Array
    se: Array
    low: Array
    high: Array
    se_orders: Array
    se_seeds: Array


class MeasuredSets:
    """Means and counts of the values of some sets, (2**n,), and the ``variances``, (r,), of the ``repeated`` ones."""

    def __init__(self, samples: Mapping[int, Sample], masks: Iterable[int], size: int):
        self.means, self.counts, variances = np.full(size, np.nan), np.zeros(size, int), np.full(size, np.nan)
        for mask in masks:
            values = np.fromiter(samples[mask].values(), float)
            self.means[mask], self.counts[mask] = values.mean(), len(values)
            variances[mask] = values.var(ddof=1) if len(values) > 1 else np.nan
        self.repeated = np.nonzero(self.counts > 1)[0]
        self.variances, self.freedoms = variances[self.repeated], self.counts[self.repeated] - 1

    def on_variances(self, shares: Array) -> Array:
        """Return Σ shares[S] · var(S) / n[S], (n, 2**n), as coefficients (n, r) of the known variances.

        A set with one value has the pooled variance of the others.
        """
        each = np.where(shares != 0, shares / np.maximum(self.counts, 1), 0)
        alone = np.where(self.counts < 2, each, 0).sum(axis=1)
        return each[:, self.repeated] + alone[:, None] * self.freedoms / max(self.freedoms.sum(), 1)


def from_all_sets(feasible: Array, samples: Mapping[int, Sample], same: Array) -> Estimate:
    """Return the Shapley values if every set of every order has been measured; only seed noise remains.

    ``samples`` are seed → value of each mask; ``same``, (2**n,), holds for each mask the first one equal to it, which
    has its sample.
    """
    exact_weights = weights(feasible)
    sets = MeasuredSets(samples, np.unique(same[(exact_weights != 0).any(axis=0)]).tolist(), len(same))
    merged = np.zeros_like(exact_weights)
    np.add.at(merged.T, same, exact_weights.T)
    return _estimate(merged, sets, np.full(len(merged), np.nan), np.zeros_like(merged), 0.0, 1)


def from_orders(
    sampled: Sequence[Sequence[int]],
    feasible: Array,
    samples: Mapping[int, Sample],
    same: Array,
    control_variate: bool = False,
) -> Estimate:
    """Return the Shapley values from some of the feasible orders, drawn at random, whose sets were all measured.

    An order lists the changes' indices in the order in which they join; duplicates count once. The other arguments are
    those of ``from_all_sets``. With ``control_variate``, each order's difference from a ridge model of the other orders
    is added to the model's exact Shapley values.
    """
    drawn = np.array(list(dict.fromkeys(map(tuple, sampled))))
    number, players = drawn.shape
    after = np.cumsum(1 << drawn, axis=1)
    before, after = same[after - (1 << drawn)], same[after]
    used = np.union1d(before, after)
    sets = MeasuredSets(samples, used.tolist(), len(same))
    # each order's estimate is a linear function of the means of the used sets
    rows, empty = np.arange(number)[:, None], np.zeros((number, players, len(used)))
    np.add.at(empty, (rows, drawn, np.searchsorted(used, after)), 1.0)
    np.add.at(empty, (rows, drawn, np.searchsorted(used, before)), -1.0)
    linear = _controlled(empty, used, after, feasible, same) if control_variate else empty
    marginals = linear @ sets.means[used]
    shares, noise = np.zeros((2, players, len(feasible)))
    shares[:, used] = linear.mean(axis=0)
    between = np.full(players, np.nan)
    if number > 1:
        between = marginals.var(axis=0, ddof=1)
        # what independent noise of the sets is expected to add to the variance between orders
        noise[:, used] = linear.var(axis=0, ddof=1)
    factor = max(1 - number / orders(feasible), 0) / number
    return _estimate(shares, sets, between, noise, factor, number)


def _controlled(linear: Array, used: Array, after: Array, feasible: Array, same: Array) -> Array:
    """Return the coefficients of each order's estimate, ``linear`` (orders, players, used), with a control variate.

    The model has main effects and pairs, and is fitted without the order's own fold of orders.
    """
    number, players, _ = linear.shape
    if number < FOLDS:
        raise RequestError(f"a control variate takes {FOLDS} orders or more (got {number})")

    def terms(masks: Array) -> Array:
        has = (masks[:, None] >> np.arange(players) & 1).astype(float)
        return np.hstack([has, *(has[:, [one]] * has[:, one + 1 :] for one in range(players))])

    columns = terms(used)
    values = weights(feasible) @ terms(same)
    penalty = np.diag(np.where(np.arange(columns.shape[1]) < players, *PENALTIES))
    found, folds = linear.copy(), np.arange(number) % FOLDS
    for fold in range(FOLDS):
        others = np.isin(used, after[folds != fold]) | (used == used[0])
        own = columns * others[:, None]
        solved = np.linalg.solve(own.T @ own + penalty, own.T)
        # means relative to the first of the used sets, the empty one, whose terms are all 0
        solved[:, 0] -= solved.sum(axis=1)
        for order in np.nonzero(folds == fold)[0]:
            found[order] += (values - linear[order] @ columns) @ solved
    return found


def _estimate(shares: Array, sets: MeasuredSets, between: Array, noise: Array, factor: float, number: int) -> Estimate:
    """Return Σ shares[S] · mean(S) of ``number`` orders with Student's interval, by Satterthwaite's degrees of freedom.

    Seed noise has the variance Σ shares[S]² · var(S) / n[S]. The sampled orders have ``factor`` times the variance
    ``between`` orders less its part due to seed noise, Σ noise[S] · var(S) / n[S]. ``factor`` is the share of orders
    that were not drawn divided by ``number``.
    """
    from scipy.special import stdtrit

    values = shares @ np.nan_to_num(sets.means)
    seeds, part = sets.on_variances(shares**2), sets.on_variances(noise)
    by_seeds = seeds @ sets.variances
    by_orders = factor * (between - part @ sets.variances) if factor else np.zeros(len(shares))
    floored = by_orders <= 0
    by_orders = np.where(floored, 0, by_orders)
    # the variance of the sum, from the coefficient and degrees of freedom of each variance in it
    mixed = np.where(floored[:, None], seeds, seeds - factor * part)
    spread = mixed**2 @ (sets.variances**2 / sets.freedoms)
    spread += np.where(floored, 0, (factor * between) ** 2 / max(number - 1, 1))
    se = np.sqrt(by_orders + by_seeds)
    df = np.divide(se**4, spread, out=np.ones(len(se)), where=spread > 0)
    if not len(sets.repeated):
        # seed noise is unknown and part of the spread between orders: take the larger of the two errors it may give
        by_orders = by_seeds = np.full(len(values), np.nan)
        all_noise = (shares**2).sum(axis=1) / np.where(noise.any(axis=1), noise.sum(axis=1), np.nan)
        se, df = np.sqrt(between * np.fmax(factor, all_noise)), np.full(len(values), number - 1)
    # values without any spread say nothing about noise
    half = stdtrit(np.maximum(df, 1), (1 + CONFIDENCE) / 2) * np.where(se > 1e-9, se, np.nan)
    return Estimate(values, se, values - half, values + half, np.sqrt(by_orders), np.sqrt(by_seeds))
