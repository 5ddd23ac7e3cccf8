"""Shapley values of games in which some sets are not feasible, exactly, by counting the orders that lead through a set.

A game of n players is an array of shape (2**n,): entry ``mask`` is the value of the set of the players whose bits are
1, NaN where that set is not feasible. A player's Shapley value is the mean of what it adds over all feasible orders,
those whose every beginning is a feasible set. Where all sets are feasible this is the classical value (Shapley 1953),
where some players need others the value under precedence constraints (Faigle and Kern 1992, "The Shapley value for
cooperative games under precedence constraints", Int. J. Game Theory 21).

Numbers of orders are kept as float64: they are sums of positive numbers, so each is right to n roundings however many
orders there are, up to 170! of them.
"""

import numpy as np

from roadmap.errors import RequestError

Array = np.ndarray


def exact(values: Array) -> Array:
    """The Shapley value, (n,), of each player of a game ``values``, (2**n,), in its unit; they sum to v(N) - v(∅).

    Raises RequestError where no order is feasible.
    """
    feasible = ~np.isnan(values)
    # relative to the empty set: the same by weights that sum to 0, with smaller numbers to round
    return weights(feasible) @ np.where(feasible, values - values[0], 0)


def weights(feasible: Array) -> Array:
    """``w``, (n, 2**n), with which each player's Shapley value is Σ w[player, mask] · v(mask).

    ``feasible``, (2**n,), says of each set whether it is. A row sums to 0 and is 0 for sets that no order leads
    through. Raises RequestError where no order is feasible.
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
    """How many orders are feasible: n! where all sets are."""
    return float(_paths(feasible)[0][-1])


def interactions(values: Array) -> Array:
    """The interaction of each two players, (n, n), in the unit of ``values``, (2**n,): what both add beyond each alone.

    It is the weighted mean of v(S+i+j) - v(S+i) - v(S+j) + v(S) over the sets S without the two for which all four are
    feasible, weighted by the feasible orders in which i and j follow S one right after the other: the Shapley
    interaction index (Owen 1972; Grabisch and Roubens 1999) where all sets are feasible. Where they are not, sets with
    a corner missing are left out and the weights divided by their sum, which is one of several ways to extend it
    (Labreuche 2011, Eur. J. Oper. Res. 214, for axioms of others). NaN on the diagonal, and for two players of which
    one needs the other: such a pair has no interaction to speak of. Raises RequestError where no order is feasible.
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
    players = len(sets).bit_length() - 1
    if len(sets) != 2**players:
        raise ValueError(f"a game of n players has 2**n values, not {len(sets)}")
    return players


def _paths(feasible: Array) -> tuple[Array, Array]:
    """Of each set the number of feasible ways that lead to it from the empty set, and from it to the full one."""
    before = _paths_up(feasible)
    if not before[-1]:
        raise RequestError("no order of these changes is feasible: each begins with options that do not go together")
    # from the full set down is from the empty set up among the complements
    return before, _paths_up(feasible[::-1])[::-1]


def _paths_up(feasible: Array) -> Array:
    masks, players = np.arange(len(feasible)), _players(feasible)
    sizes = sum(masks >> player & 1 for player in range(players))
    ways = np.zeros(len(feasible))
    ways[0] = feasible[0]
    for size in range(1, players + 1):
        level = masks[(sizes == size) & feasible]
        for player in range(players):
            joined = level[level >> player & 1 == 1]
            ways[joined] += ways[joined ^ 1 << player]
    return ways
