"""Shapley values against games with known answers and all permutations; estimates cover as often as they say."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from roadmap.attribution import shapley
from roadmap.attribution.shapley import Estimate, exact, interactions, orders, weights
from roadmap.errors import RequestError
from roadmap.statistics.gaps import Sample


def by_permutations(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The definition itself: what each player adds in each feasible order, averaged; and the number of orders."""
    players, found = len(values).bit_length() - 1, []
    for order in itertools.permutations(range(players)):
        along = values[[sum(1 << player for player in order[:size]) for size in range(players + 1)]]
        if not np.isnan(along).any():
            found.append(np.diff(along)[np.argsort(order)])
    return np.mean(found, axis=0), len(found)


def random_game(players: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=2**players) * 10


def constrained(values: np.ndarray, needs: dict[int, int]) -> np.ndarray:
    """The game in which each key needs the player it is mapped to."""
    masks = np.arange(len(values))
    wrong = np.zeros(len(values), bool)
    for player, needed in needs.items():
        wrong |= (masks >> player & 1 == 1) & (masks >> needed & 1 == 0)
    return np.where(wrong, np.nan, values)


def test_an_additive_game_gives_each_player_its_own_worth() -> None:
    worth = np.array([3.0, -1.0, 0.5, 0.0])
    values = np.array([7 + sum(worth[i] for i in range(4) if mask >> i & 1) for mask in range(16)])
    np.testing.assert_allclose(exact(values), worth, atol=1e-12)
    np.testing.assert_allclose(interactions(values)[~np.eye(4, dtype=bool)], 0, atol=1e-12)


def test_a_pure_two_way_game_is_split_between_the_two() -> None:
    # v = 4 for sets with both of players 0 and 2, else 0
    values = np.array([4.0 if mask & 0b101 == 0b101 else 0.0 for mask in range(8)])
    np.testing.assert_allclose(exact(values), [2, 0, 2])
    found = interactions(values)
    assert found[0, 2] == found[2, 0] == pytest.approx(4)
    assert found[0, 1] == found[1, 2] == pytest.approx(0)


@pytest.mark.parametrize("needs", [{}, {1: 0}, {3: 1, 2: 1}, {1: 0, 2: 1, 3: 2, 4: 3}, {4: 2, 0: 4}])
def test_games_under_precedence_against_all_permutations(needs: dict[int, int]) -> None:
    values = constrained(random_game(5, 9), needs)
    expected, number = by_permutations(values)
    np.testing.assert_allclose(exact(values), expected, rtol=1e-10)
    assert orders(~np.isnan(values)) == number


def test_any_infeasible_sets_against_all_permutations() -> None:
    values = random_game(5, 3)
    values[[3, 6, 12, 17, 22]] = np.nan
    np.testing.assert_allclose(exact(values), by_permutations(values)[0], rtol=1e-10)


def test_a_set_that_no_order_leads_through_has_no_weight() -> None:
    feasible = np.ones(8, bool)
    feasible[[0b001, 0b010]] = False  # so {0, 1} is feasible and never reached
    assert not weights(feasible)[:, 0b011].any()


def test_interactions_against_all_permutations() -> None:
    """In the orders of the other players, the two joining together at every place in turn."""
    values = random_game(5, 4)
    found = interactions(values)
    for i, j in itertools.combinations(range(5), 2):
        rest = [player for player in range(5) if player not in (i, j)]
        both, seconds = 1 << i | 1 << j, []
        for order in itertools.permutations(rest):
            for size in range(len(rest) + 1):
                mask = sum(1 << player for player in order[:size])
                seconds.append(values[mask | both] - values[mask | 1 << i] - values[mask | 1 << j] + values[mask])
        assert found[i, j] == pytest.approx(np.mean(seconds))


def test_interactions_where_one_player_needs_another() -> None:
    # 1 needs 0, so the two have none; v = 5 for sets with both of 0 and 2, whether 1 is there or not
    found = interactions(constrained(np.array([5.0 if mask & 0b101 == 0b101 else 0.0 for mask in range(8)]), {1: 0}))
    assert np.isnan(found[0, 1])
    assert found[0, 2] == pytest.approx(5)
    assert found[1, 2] == pytest.approx(0)


def test_values_of_thirteen_players_sum_to_the_total_gain() -> None:
    values = constrained(random_game(13, 0), {6: 3})
    assert exact(values).sum() == pytest.approx(values[-1] - values[0], rel=1e-9)
    assert orders(~np.isnan(values)) == math.factorial(13) / 2


def test_no_feasible_order_is_refused() -> None:
    with pytest.raises(RequestError, match="no order of these changes is feasible"):
        exact(np.array([0.0, np.nan, np.nan, 1.0]))


def from_orders(
    drawn: Sequence[Sequence[int]], feasible: np.ndarray, samples: dict[int, Sample], control_variate: bool = False
) -> Estimate:
    return shapley.from_orders(drawn, feasible, samples, np.arange(len(feasible)), control_variate)


def game(players: int, rng: np.random.Generator, pairs: float, *, needs: bool = False) -> np.ndarray:
    """Random main effects and two-way interactions; with ``needs`` player 1 needs player 0."""
    present = np.arange(2**players)[:, None] >> np.arange(players) & 1
    values = present @ rng.normal(size=players)
    for i, j in itertools.combinations(range(players), 2):
        values = values + pairs * rng.normal() * present[:, i] * present[:, j]
    return np.where(needs & (present[:, 1] > present[:, 0]), np.nan, values)


def draw_orders(count: int, players: int, rng: np.random.Generator, *, needs: bool = False) -> list[tuple[int, ...]]:
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        order = tuple(rng.permutation(players).tolist())
        if not needs or order.index(0) < order.index(1):
            found[order] = None
    return list(found)


def sets_of(orders: Sequence[Sequence[int]]) -> set[int]:
    return {0} | {sum(1 << player for player in order[: size + 1]) for order in orders for size in range(len(order))}


def measured(
    values: np.ndarray, masks: set[int], seeds: int, noise: float, rng: np.random.Generator
) -> dict[int, Sample]:
    """Each set's value with seed noise."""
    return {mask: dict(enumerate(values[mask] + noise * rng.normal(size=seeds))) for mask in masks}


def coverage(players: int, orders: int, seeds: int, pairs: float, noise: float, times: int, *, needs: bool) -> float:
    """How many intervals hold the true Shapley value, over so many games with orders and seeds of their own."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(times):
        values = game(players, rng, pairs, needs=needs)
        drawn = draw_orders(orders, players, rng, needs=needs)
        found = from_orders(drawn, ~np.isnan(values), measured(values, sets_of(drawn), seeds, noise, rng))
        held.append((found.low <= exact(values)) & (exact(values) <= found.high))
    return float(np.mean(held))


# additive, with interactions as large as noise, almost without noise, and with one seed, where noise is unknown
CASES = [(0.0, 1.0, 2, False), (0.3, 1.0, 3, False), (1.0, 0.01, 2, True), (0.3, 1.0, 1, False)]


@pytest.mark.parametrize(("pairs", "noise", "seeds", "needs"), CASES)
def test_intervals_cover(pairs: float, noise: float, seeds: int, needs: bool) -> None:
    assert coverage(5, 12, seeds, pairs, noise, 60, needs=needs) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("players", "orders"), [(6, 5), (9, 20)])
@pytest.mark.parametrize(("pairs", "noise", "seeds", "needs"), CASES)
def test_intervals_cover_in_a_larger_simulation(
    pairs: float, noise: float, seeds: int, needs: bool, orders: int, players: int
) -> None:
    assert coverage(players, orders, seeds, pairs, noise, 200, needs=needs) >= 0.92


def compared(
    players: int, orders: int, seeds: int, pairs: float, threes: float, noise: float, times: int, *, needs: bool = False
) -> tuple[float, float]:
    """How many intervals with the control variate hold the true value, and its squared error relative to without it."""
    rng = np.random.default_rng(1)
    held, errors = 0.0, np.zeros(2)
    for _ in range(times):
        values = game(players, rng, pairs, needs=needs)
        present = np.arange(2**players)[:, None] >> np.arange(players) & 1
        for _ in range(players):  # interactions that the model does not have
            values = values + threes * rng.normal() * present[:, rng.choice(players, 3, replace=False)].prod(axis=1)
        drawn, true = draw_orders(orders, players, rng, needs=needs), exact(values)
        samples = measured(values, sets_of(drawn), seeds, noise, rng)
        plain, found = (from_orders(drawn, ~np.isnan(values), samples, control) for control in (False, True))
        held += np.mean((found.low <= true) & (true <= found.high))
        errors += [np.mean((each.values - true) ** 2) for each in (plain, found)]
    return held / times, errors[1] / errors[0]


# seeds, pairs, threes, noise, needs, and the largest squared error relative to without a control variate
CONTROLLED = [
    (2, 1.0, 0.0, 0.3, True, 0.5),
    (2, 1.0, 1.0, 0.3, False, 0.8),
    (2, 0.3, 1.0, 0.1, False, 1.0),
    (2, 0.0, 0.0, 1.0, False, 1.1),
    (1, 1.0, 1.0, 0.3, False, 0.8),
]


def test_a_control_variate_reduces_the_error_and_its_intervals_cover() -> None:
    coverage, error = compared(6, 10, 2, 1.0, 1.0, 0.3, 60)
    assert coverage >= 0.9
    assert error <= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("players", "orders"), [(6, 10), (9, 20)])
@pytest.mark.parametrize(("seeds", "pairs", "threes", "noise", "needs", "largest"), CONTROLLED)
def test_intervals_with_a_control_variate_cover(
    seeds: int, pairs: float, threes: float, noise: float, needs: bool, largest: float, orders: int, players: int
) -> None:
    coverage, error = compared(players, orders, seeds, pairs, threes, noise, 200, needs=needs)
    assert coverage >= 0.92
    assert error <= largest


def test_a_control_variate_is_exact_for_all_orders_and_needs_five() -> None:
    rng, feasible = np.random.default_rng(3), np.ones(16, bool)
    samples = measured(game(4, rng, 1.0), set(range(16)), 3, 0.5, rng)
    # over all orders the model's own mean marginal is its Shapley value, in each fold only nearly
    found = from_orders(list(itertools.permutations(range(4))), feasible, samples, True)
    plain = from_orders(list(itertools.permutations(range(4))), feasible, samples)
    np.testing.assert_allclose(found.values, plain.values, atol=0.1)
    assert np.sum(found.values) == pytest.approx(np.sum(plain.values))
    with pytest.raises(RequestError, match=r"a control variate takes 5 orders or more \(got 2\)"):
        from_orders([(0, 1), (1, 0)], np.ones(4, bool), {mask: {0: float(mask)} for mask in range(4)}, True)


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    """Over draws of orders and seeds for one game: the mean variance claimed is the variance seen."""
    rng = np.random.default_rng(2)
    values = game(5, rng, 0.5)
    found = []
    for _ in range(300):
        drawn = draw_orders(8, 5, rng)
        found.append(from_orders(drawn, np.ones(32, bool), measured(values, sets_of(drawn), 3, 0.5, rng)))
    seen = np.var([estimate.values for estimate in found], axis=0, ddof=1)
    claimed = np.mean([estimate.se**2 for estimate in found], axis=0)
    # floored at 0, the part of the orders is rather too large
    np.testing.assert_array_less(0.8 * seen, claimed)
    np.testing.assert_array_less(claimed, 1.4 * seen)
    np.testing.assert_allclose(np.mean([estimate.values for estimate in found], axis=0), exact(values), atol=0.15)


def test_all_orders_leave_seed_noise_alone() -> None:
    rng, feasible = np.random.default_rng(3), np.ones(16, bool)
    samples = measured(game(4, rng, 1.0), set(range(16)), 3, 0.5, rng)
    by_orders = from_orders(list(itertools.permutations(range(4))), feasible, samples)
    by_sets = shapley.from_all_sets(feasible, samples, np.arange(16))
    np.testing.assert_allclose(by_orders.values, by_sets.values)
    np.testing.assert_allclose(by_orders.se, by_sets.se)
    np.testing.assert_array_equal(by_orders.se_orders, 0)
    values = np.array([list(samples[mask].values()) for mask in range(16)])
    np.testing.assert_allclose(by_sets.values, exact(values.mean(axis=1)))
    # by hand: Σ w² s² / n
    np.testing.assert_allclose(by_sets.se**2, weights(feasible) ** 2 @ values.var(axis=1, ddof=1) / 3)


def test_two_changes_by_hand() -> None:
    samples = {0: {0: 1.0, 1: 3.0}, 1: {0: 5.0, 1: 5.0}, 2: {0: 2.0, 1: 4.0}, 3: {0: 9.0, 1: 11.0}}
    # means 2, 5, 3, 10: change 0 adds 3 or 7, change 1 adds 5 or 1
    found = from_orders([(0, 1), (1, 0)], np.ones(4, bool), samples)
    np.testing.assert_allclose(found.values, [5, 3])
    # every weight is 1/2; variances 2, 0, 2, 2 over two seeds each
    np.testing.assert_allclose(found.se**2, [6 / 4 / 2] * 2)
    # a set with one seed has the pooled variance of the others
    found = from_orders([(0, 1), (1, 0)], np.ones(4, bool), samples | {3: {0: 10.0}})
    np.testing.assert_allclose(found.se**2, [(4 / 2 + 4 / 3) / 4] * 2)


def test_one_seed_or_one_order_has_no_interval() -> None:
    one_seed: dict[int, Sample] = {mask: {0: float(mask)} for mask in range(4)}
    found = shapley.from_all_sets(np.ones(4, bool), one_seed, np.arange(4))
    assert np.isnan([found.se, found.low]).all()
    found = from_orders([(0, 1)], np.ones(4, bool), {mask: {0: float(mask), 1: mask + 1.0} for mask in range(4)})
    np.testing.assert_allclose(found.values, [1, 2])
    assert np.isnan(found.low).all()


def test_an_order_drawn_twice_counts_once() -> None:
    samples: dict[int, Sample] = {mask: {0: float(mask**2), 1: mask + 1.0} for mask in range(8)}
    once = from_orders([(0, 1, 2), (2, 1, 0)], np.ones(8, bool), samples)
    twice = from_orders([(0, 1, 2), (2, 1, 0), (0, 1, 2)], np.ones(8, bool), samples)
    np.testing.assert_array_equal(once.se, twice.se)


def test_a_change_that_does_nothing_is_worth_exactly_nothing() -> None:
    """Sets with and without change 1 are the same measurement, so its value has no noise."""
    samples = {0: {0: 1.0, 1: 2.0}, 1: {0: 5.0, 1: 7.0}}
    found = shapley.from_orders([(0, 1), (1, 0)], np.ones(4, bool), samples, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(found.values, [4.5, 0])
    # change 0: the difference of two sets, each counting whole
    np.testing.assert_allclose(found.se**2, [0.5 / 2 + 2 / 2, 0])
