"""Shapley values against games with known answers and against all permutations one by one."""

import itertools
import math

import numpy as np
import pytest

from roadmap.attribution.shapley import exact, interactions, orders, weights
from roadmap.errors import RequestError


def feasible_orders(values: np.ndarray) -> list[tuple[int, ...]]:
    players = len(values).bit_length() - 1
    return [
        order
        for order in itertools.permutations(range(players))
        if not np.isnan(values[[sum(1 << player for player in order[:size]) for size in range(players + 1)]]).any()
    ]


def by_permutations(values: np.ndarray) -> np.ndarray:
    """The definition itself: what each player adds in each order, averaged."""
    added = np.zeros(len(values).bit_length() - 1)
    found = feasible_orders(values)
    for order in found:
        mask = 0
        for player in order:
            added[player] += values[mask | 1 << player] - values[mask]
            mask |= 1 << player
    return added / len(found)


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
    off_diagonal = interactions(values)[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, 0, atol=1e-12)


def test_a_pure_two_way_game_is_split_between_the_two() -> None:
    # v = 4 for sets with both of players 0 and 2, else 0
    values = np.array([4.0 if mask & 0b101 == 0b101 else 0.0 for mask in range(8)])
    np.testing.assert_allclose(exact(values), [2, 0, 2])
    found = interactions(values)
    assert found[0, 2] == found[2, 0] == pytest.approx(4)
    assert found[0, 1] == found[1, 2] == pytest.approx(0)


def test_the_glove_game() -> None:
    """One left glove and two right ones, a pair worth 1: 4/6, 1/6, 1/6."""
    values = np.array([float(mask & 1 and mask & 0b110 != 0) for mask in range(8)])
    np.testing.assert_allclose(exact(values), [4 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize("players", [1, 2, 3, 5, 6])
def test_random_games_against_all_permutations(players: int) -> None:
    values = random_game(players, players)
    np.testing.assert_allclose(exact(values), by_permutations(values), rtol=1e-10)
    assert orders(~np.isnan(values)) == math.factorial(players)


@pytest.mark.parametrize("needs", [{1: 0}, {3: 1, 2: 1}, {1: 0, 2: 1, 3: 2, 4: 3}, {4: 2, 0: 4}])
def test_games_under_precedence_against_all_linear_extensions(needs: dict[int, int]) -> None:
    values = constrained(random_game(5, 9), needs)
    np.testing.assert_allclose(exact(values), by_permutations(values), rtol=1e-10)
    assert orders(~np.isnan(values)) == len(feasible_orders(values))
    assert exact(values).sum() == pytest.approx(values[-1] - values[0], rel=1e-12)


def test_any_infeasible_sets_against_all_permutations() -> None:
    values = random_game(5, 3)
    values[[3, 6, 12, 17, 22]] = np.nan
    np.testing.assert_allclose(exact(values), by_permutations(values), rtol=1e-10)


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
    values = constrained(np.array([5.0 if mask & 0b101 == 0b101 else 0.0 for mask in range(8)]), {1: 0})
    found = interactions(values)
    assert np.isnan(found[0, 1])
    assert found[0, 2] == pytest.approx(5)
    assert found[1, 2] == pytest.approx(0)


def test_values_of_thirteen_players_sum_to_the_total_gain() -> None:
    values = constrained(random_game(13, 0), {6: 3})
    found = exact(values)
    assert found.sum() == pytest.approx(values[-1] - values[0], rel=1e-9)
    assert orders(~np.isnan(values)) == math.factorial(13) / 2


def test_more_orders_than_a_double_counts_still_sum() -> None:
    """19! is beyond 2**53; a symmetric game has a known answer there."""
    size = sum(np.arange(2**19) >> player & 1 for player in range(19))
    np.testing.assert_allclose(exact(np.sqrt(size)), np.sqrt(19) / 19, rtol=1e-12)


def test_no_feasible_order_is_refused() -> None:
    with pytest.raises(RequestError, match="no order of these changes is feasible"):
        exact(np.array([0.0, np.nan, np.nan, 1.0]))
