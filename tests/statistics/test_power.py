"""Power and the number of seeds, against statsmodels and by simulation."""

import math

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from roadmap.statistics.gaps import gaps
from roadmap.statistics.power import gap_error, more_seeds, power

EFFECTS = (0.3, 0.5, 1.0, 2.0, 4.0, 8.0)  # gaps in standard deviations of a seed


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 16])
@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_power_by_simulation(seeds: int, alpha: float) -> None:
    """Of the pooled test of two groups, in 40,000 studies; four standard errors of the simulation."""
    rng, df = np.random.default_rng(seeds), 2 * (seeds - 1)
    error = math.sqrt(2 / seeds)
    for effect in EFFECTS:
        estimate = effect + error * rng.standard_normal(40_000)
        t = estimate / (error * np.sqrt(rng.chisquare(df, 40_000) / df))
        expected = (t > special.stdtrit(df, 1 - alpha / 2)).mean()
        found = power(np.array([effect]), np.array([error]), np.array([df]), alpha)[0]
        assert found == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 40_000))


def test_power_is_scipys_for_every_gap() -> None:
    """scipy.special's non-central t is NaN where its lower tail underflows, scipy.stats' is not."""
    df = np.array([0.5, 1, 1.5, 2, 3, 7.3, 40, 1000, 1e6])[:, None, None]
    shift = np.append(np.linspace(0, 40, 81), [60, 300, 1e4])[:, None]
    alpha = np.array([0.05, 0.05 / 16, 0.05 / 3333])
    found = power(shift, np.ones(1), df, alpha)
    assert found == pytest.approx(stats.nct.sf(stats.t.isf(alpha / 2, df), df, shift), abs=1e-9)
    assert power(np.array([1e300]), np.ones(1), np.ones(1), 0.05) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 16])
@pytest.mark.parametrize("effect", [0.3, 0.8, 2.0])
def test_more_seeds_of_a_paired_test_against_statsmodels(effect: float, alpha: float) -> None:
    expected = math.ceil(TTestPower().solve_power(effect, power=0.8, alpha=alpha))
    one = np.array([[1.0, 0.0]])
    found = more_seeds(np.array([effect]), one, np.array([[2.0, 2.0]]), np.array([[1.0, 1.0]]), alpha)
    assert found.tolist() == [max(expected - 2, 1)]


@pytest.mark.parametrize("effect", EFFECTS)
def test_more_seeds_by_simulation(effect: float) -> None:
    """Welch's test with that many more seeds has a power of 80 %, and with one fewer it does not."""
    n, variances, alpha = np.array([[3, 5]]), np.array([[1.0, 0.25]]), 0.05 / 16
    (more,) = more_seeds(np.array([effect]), variances, n, n - 1, alpha).astype(int).tolist()
    rng, studies = np.random.default_rng(0), 20_000
    for added in (more, more - 1):
        seeds = (n + added)[0]
        chi2 = np.stack([rng.chisquare(seeds[0] - 1, studies), rng.chisquare(seeds[1] - 1, studies)], axis=1)
        error, df = gap_error(variances * chi2 / (seeds - 1), seeds, seeds - 1)
        delta = effect + np.sqrt((variances / seeds).sum()) * rng.standard_normal(studies)
        found = (delta / error > special.stdtrit(df, 1 - alpha / 2)).mean()
        if added == more:
            assert found > 0.78
        elif more > 1:
            assert found < 0.81


def test_no_number_of_seeds_resolves_nothing() -> None:
    of_two = np.full((3, 2), 3.0)
    found = more_seeds(np.array([0.0, 1e-4, 1000.0]), np.ones((3, 2)), of_two, of_two - 1, 0.05)
    assert found.tolist() == [math.inf, math.inf, 1.0]


def test_the_range_of_more_seeds_holds_the_true_number() -> None:
    """In 19 of 20 studies of four seeds; the observed gap is kept at the true one, 2 standard deviations."""
    rng = np.random.default_rng(0)
    four, level = np.full((1, 2), 4), 0.05
    (needed,) = more_seeds(np.array([1.2]), np.ones((1, 2)), four, np.full((1, 2), 3), level)
    held = []
    for _ in range(150):
        one, other = (values - values.mean() for values in rng.standard_normal((2, 4)))
        row = gaps([(dict(enumerate(one + 1.2)), dict(enumerate(other)))]).iloc[0]
        if row["more_seeds"] > 0:
            held.append(row["more_seeds_low"] <= needed <= row["more_seeds_high"])
    assert len(held) > 100
    assert np.mean(held) > 0.9
