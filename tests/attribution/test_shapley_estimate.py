"""Shapley values from sampled orders: right on average, and intervals that cover as often as they say."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from roadmap.attribution.shapley import exact, weights
from roadmap.attribution.shapley_estimate import Estimate, from_all_sets, from_orders
from roadmap.comparison.statistics import Sample


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
    """Each set's value with noise, and with what a seed does to all sets alike."""
    alike = noise * rng.normal(size=seeds)
    return {mask: dict(enumerate(values[mask] + alike + noise * rng.normal(size=seeds))) for mask in masks}


def of_other_seeds(samples: dict[int, Sample], mask: int) -> dict[int, Sample]:
    """The same values, those of one set from seeds that the other sets do not have."""
    return samples | {mask: {seed + 10: value for seed, value in samples[mask].items()}}


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
    assert coverage(5, 12, seeds, pairs, noise, 100, needs=needs) >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("players", [6, 9])
@pytest.mark.parametrize("orders", [5, 20])
@pytest.mark.parametrize(("pairs", "noise", "seeds", "needs"), CASES)
def test_intervals_cover_in_a_larger_simulation(
    pairs: float, noise: float, seeds: int, needs: bool, orders: int, players: int
) -> None:
    assert coverage(players, orders, seeds, pairs, noise, 500, needs=needs) >= 0.92


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    """Over draws of orders and seeds for one game: the mean variance claimed is the variance seen."""
    rng = np.random.default_rng(2)
    values = game(5, rng, 0.5)
    found = []
    for _ in range(400):
        drawn = draw_orders(8, 5, rng)
        found.append(from_orders(drawn, np.ones(32, bool), measured(values, sets_of(drawn), 3, 0.5, rng)))
    seen = np.var([estimate.values for estimate in found], axis=0, ddof=1)
    claimed = np.mean([estimate.se**2 for estimate in found], axis=0)
    # floored at 0, the part of the orders is rather too large
    np.testing.assert_array_less(0.8 * seen, claimed)
    np.testing.assert_array_less(claimed, 1.4 * seen)
    np.testing.assert_allclose(np.mean([estimate.values for estimate in found], axis=0), exact(values), atol=0.15)


def test_all_orders_leave_seed_noise_alone() -> None:
    rng = np.random.default_rng(3)
    values = game(4, rng, 1.0)
    samples = of_other_seeds(measured(values, set(range(16)), 3, 0.5, rng), 5)
    orders = list(itertools.permutations(range(4)))
    by_orders, by_sets = from_orders(orders, np.ones(16, bool), samples), from_all_sets(np.ones(16, bool), samples)
    np.testing.assert_allclose(by_orders.values, by_sets.values)
    np.testing.assert_allclose(by_orders.se, by_sets.se)
    np.testing.assert_array_equal(by_orders.se_orders, 0)
    means = np.array([np.mean(list(samples[mask].values())) for mask in range(16)])
    np.testing.assert_allclose(by_sets.values, exact(means))
    # by hand: Σ w² s² / n
    variances = np.array([np.var(list(samples[mask].values()), ddof=1) for mask in range(16)])
    np.testing.assert_allclose(by_sets.se**2, weights(np.ones(16, bool)) ** 2 @ variances / 3)


def two_orders(samples: dict[int, Sample]) -> Estimate:
    return from_orders([(0, 1), (1, 0)], np.ones(4, bool), samples)


def test_two_changes_by_hand() -> None:
    samples = {0: {0: 1.0, 1: 3.0}, 1: {0: 5.0, 1: 5.0}, 2: {0: 2.0, 1: 4.0}, 3: {0: 9.0, 1: 11.0}}
    found = two_orders(of_other_seeds(samples, 0))
    # means 2, 5, 3, 10: change 0 adds 3 or 7, change 1 adds 5 or 1
    np.testing.assert_allclose(found.values, [5, 3])
    # every weight is 1/2; variances 2, 0, 2, 2 over two seeds each
    np.testing.assert_allclose(found.se**2, [6 / 4 / 2] * 2)
    # with equal seeds seed 1 adds 1.5 on average, which leaves differences of 0.5, -1.5, 0.5 and 0.5 between the seeds:
    # their variances, of which a fourth went with the mean
    np.testing.assert_allclose(two_orders(samples).se ** 2, [(3 * 0.5**2 + 1.5**2) / 2 * 4 / 3 / 4 / 2] * 2)


def test_a_set_with_one_seed_has_the_pooled_variance() -> None:
    samples = {0: {0: 1.0, 1: 3.0}, 1: {0: 5.0, 1: 7.0}, 2: {0: 2.0, 1: 4.0}, 3: {0: 10.0}}
    np.testing.assert_allclose(two_orders(samples).se ** 2, [(2 / 2 * 3 + 2) / 4] * 2)


def test_one_seed_and_all_sets_say_nothing_of_noise() -> None:
    found = from_all_sets(np.ones(4, bool), {mask: {0: float(mask)} for mask in range(4)})
    assert np.isnan(found.se).all()
    assert np.isnan(found.low).all()


def test_one_order_has_no_interval() -> None:
    samples = {mask: {0: float(mask), 1: mask + 1.0} for mask in range(4)}
    found = from_orders([(0, 1)], np.ones(4, bool), samples)
    np.testing.assert_allclose(found.values, [1, 2])
    assert np.isnan(found.low).all()


def test_an_order_drawn_twice_counts_once() -> None:
    samples = {mask: {0: float(mask**2), 1: mask + 1.0} for mask in range(8)}
    once = from_orders([(0, 1, 2), (2, 1, 0)], np.ones(8, bool), samples)
    twice = from_orders([(0, 1, 2), (2, 1, 0), (0, 1, 2)], np.ones(8, bool), samples)
    np.testing.assert_array_equal(once.se, twice.se)


def test_a_change_that_does_nothing_is_worth_exactly_nothing() -> None:
    """Sets with and without change 1 are the same measurement, so its value has no noise."""
    same = np.array([0, 1, 0, 1])
    samples = of_other_seeds({0: {0: 1.0, 1: 2.0}, 1: {0: 5.0, 1: 7.0}}, 1)
    found = from_orders([(0, 1), (1, 0)], np.ones(4, bool), samples, same)
    np.testing.assert_allclose(found.values, [4.5, 0])
    assert found.se[1] == 0
    # change 0: the difference of two sets, each counting whole
    assert found.se[0] ** 2 == pytest.approx(0.5 / 2 + 2 / 2)


def test_a_missing_set_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="no value"):
        two_orders({0: {0: 1.0}, 1: {0: 1.0}, 3: {0: 1.0}})


def test_what_a_seed_does_to_one_change_everywhere_is_noticed() -> None:
    """Mostly where there is such an effect on one change, and hardly ever where there is none."""
    rng = np.random.default_rng(4)
    noticed: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for _ in range(40):
        values, drawn = game(9, rng, 0.3), draw_orders(20, 9, rng)
        samples = measured(values, sets_of(drawn), 3, 0.3, rng)
        shifts = rng.normal(size=3)
        shifted = {
            mask: {seed: value + shifts[seed] * (mask >> 2 & 1) for seed, value in sample.items()}
            for mask, sample in samples.items()
        }
        for shift, found in ((False, samples), (True, shifted)):
            noticed[shift].append(from_orders(drawn, np.ones(512, bool), found).seed_ratio_p < 0.05 / 9)
    assert np.any(noticed[False], axis=1).mean() <= 0.15
    by_change = np.mean(noticed[True], axis=0)
    assert by_change[2] >= 0.6
    assert np.delete(by_change, 2).max() <= 0.15
