"""Moderated variances, and the error rates of the tests that use them, by simulation."""

import numpy as np
import pytest
from scipy import stats

from roadmap.statistics.gaps import gaps
from roadmap.statistics.moderation import moderated, prior_of
from tests.statistics.gap_simulation import PAIRS, SEEDS, STDS, digits_stds, draw, paper_gaps, paper_stds, simulated


@pytest.mark.parametrize("df", [1, 2, 9])
@pytest.mark.parametrize("prior_df", [2.0, 4.0, 20.0])
def test_the_prior_of_many_groups_is_found(df: int, prior_df: float) -> None:
    rng = np.random.default_rng(0)
    of_groups = 4.0 * prior_df / rng.chisquare(prior_df, 200_000)
    variances = of_groups * rng.chisquare(df, 200_000) / df
    variance, found = prior_of(variances, np.full(200_000, df))
    # at two degrees of freedom the mean variance is infinite, but not the mean standard deviation
    assert variance == pytest.approx(np.sqrt(of_groups).mean() ** 2, rel=0.02)
    # lowered by 1.5 standard errors of the dispersion
    assert 0.7 * prior_df < found < 1.1 * prior_df


def test_equal_variances_are_pooled() -> None:
    """By hand: the square of the mean of s / c4, with c4 0.8862 for three values."""
    variances = np.array([0.9, 1.0, 1.1, 1.05, 0.95, 1.02, 0.98, 1.5] * 3)
    prior, prior_df = prior_of(variances, np.full(24, 2))
    assert np.isinf(prior_df)
    assert prior == pytest.approx((np.sqrt(variances) / 0.886227).mean() ** 2)
    moderate, df = moderated(variances, np.full(24, 2))
    assert moderate == pytest.approx(np.maximum(prior, variances))
    assert df.tolist() == [48] * 24
    assert moderate.max() == 1.5


def test_few_groups_are_never_pooled_outright() -> None:
    _, prior_df = prior_of(np.ones(8), np.full(8, 2))
    assert np.isfinite(prior_df)


def test_a_moderated_variance_is_never_below_the_groups_own() -> None:
    variances = np.random.default_rng(0).chisquare(1, (100, 17)) * np.geomspace(0.01, 10, 17)
    moderate, df = moderated(variances, np.full(17, 1))
    assert (moderate >= variances).all()
    assert (df >= 1).all()
    assert (moderate[:, 0] > variances[:, 0]).mean() > 0.9


@pytest.mark.parametrize("groups", [2, 3])
def test_few_groups_are_not_moderated(groups: int) -> None:
    variances = np.arange(1.0, groups + 1)
    moderate, df = moderated(np.append(variances, np.nan), np.array([2] * groups + [0]))
    assert moderate[:-1].tolist() == variances.tolist()
    assert np.isnan(moderate[-1])
    assert df.tolist() == [2] * groups + [0]


def test_equal_accuracies_leave_the_prior_finite() -> None:
    moderate, _ = moderated(np.array([0.0, 0.0, 1.0, 2.0, 3.0]), np.full(5, 2))
    assert (moderate[:2] > 0).all()
    untouched, df = moderated(np.zeros(5), np.full(5, 2))
    assert untouched.tolist() == [0] * 5
    assert df.tolist() == [2] * 5


def test_gaps_are_tested_as_in_the_simulation() -> None:
    n = SEEDS["2 to 5"]
    values = draw(np.random.default_rng(3), 1, digits_stds(), 5)
    samples = [dict(enumerate(row[:seeds])) for row, seeds in zip(values[0], n, strict=True)]
    table = gaps([(samples[one], samples[other]) for one, other in PAIRS])
    assert table["delta_p"].to_numpy() == pytest.approx(simulated(values, n, "moderated").p[0])


@pytest.mark.parametrize("spread", ["Table 10's", "digits'", "equal"])
def test_error_rates_at_three_seeds(spread: str) -> None:
    """2,000 studies of 16 gaps: family-wise error and coverage, with three standard errors of the simulation."""
    found = simulated(draw(np.random.default_rng(0), 2000, STDS[spread](), 3), SEEDS["3"], "moderated")
    assert found.family_wise_error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert 0.93 <= found.covered.mean() <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("spread", STDS)
@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_error_rates(spread: str, seeds: str, correlation: float) -> None:
    n = SEEDS[seeds]
    values = draw(np.random.default_rng(1), 20_000, STDS[spread](), n.max(), correlation)
    found = simulated(values, n, "moderated")
    assert found.family_wise_error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)
    # correlated seeds and equal variances of two seeds make it conservative
    assert 0.93 <= found.covered.mean() <= (0.99 if correlation else 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 4, 5, 7, 10])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_error_rates_of_few_groups(groups: int, seeds: int) -> None:
    rng, n = np.random.default_rng(2), np.full(groups, seeds)
    stds = rng.permuted(np.tile(digits_stds(), (20_000, 1)), axis=1)[:, :groups]
    pairs = np.array([(group, group - 1) for group in range(1, groups)])
    found = simulated(draw(rng, 20_000, stds, seeds), n, "moderated", pairs=pairs)
    assert found.family_wise_error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)
    assert 0.93 <= found.covered.mean() <= 0.98


def test_power_on_table_10() -> None:
    """At three seeds it resolves twice as many of the paper's gaps as the paired test, and more than Welch's."""
    values, gap = draw(np.random.default_rng(0), 1000, paper_stds(), 3), paper_gaps()
    right = {
        kind: (found.significant & (np.sign(found.delta) == np.sign(gap))).sum(axis=1).mean()
        for kind in ("moderated", "paired", "Welch")
        for found in [simulated(values, SEEDS["3"], kind, gap)]
    }
    assert right["moderated"] > 2 * right["paired"]
    assert right["moderated"] > right["Welch"] + 1.5


def test_against_scipy_without_moderation() -> None:
    values = draw(np.random.default_rng(0), 1, np.ones(17), 4)
    one, other = PAIRS[5]
    for kind, expected in {
        "Welch": stats.ttest_ind(values[0, one], values[0, other], equal_var=False),
        "paired": stats.ttest_rel(values[0, one], values[0, other]),
    }.items():
        assert simulated(values, np.full(17, 4), kind).p[0, 5] == pytest.approx(expected.pvalue)
