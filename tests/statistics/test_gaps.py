"""Means, gaps and seeds needed, against hand calculations, scipy, statsmodels and a simulation."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from roadmap.statistics.gaps import gaps, means, seeds_for

ONE, OTHER = {0: 81.0, 1: 80.2, 2: 80.9}, {0: 80.0, 1: 79.9, 2: 79.7}


def test_means_by_hand() -> None:
    table = means([ONE, {0: 5.0}, {}, {7: 1.0, 9: 3.0}])
    assert table["n"].tolist() == [3, 1, 0, 2]
    assert table.loc[3, ["mean", "std"]].tolist() == pytest.approx([2.0, math.sqrt(2)])
    # 12.706 is Student's t for one degree of freedom, in any table
    assert table.loc[3, ["low", "high"]].tolist() == pytest.approx([2 - 12.7062, 2 + 12.7062], abs=1e-3)
    interval = stats.ttest_1samp(list(ONE.values()), 0).confidence_interval(0.95)
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx(list(interval))
    assert table.loc[1, "mean"] == 5.0
    assert table.loc[[1, 2], ["std", "low", "high"]].isna().all(axis=None)


def test_gaps_are_paired_by_seed_where_seeds_are_shared() -> None:
    table = gaps([(ONE, {2: 79.7, 0: 80.0, 1: 79.9, 9: 10.0})])
    expected = stats.ttest_rel(list(ONE.values()), list(OTHER.values()))
    interval = expected.confidence_interval(0.95)
    assert table.loc[0, "paired"] is True
    assert table.loc[0, ["delta", "delta_n"]].tolist() == pytest.approx([(1.0 + 0.3 + 1.2) / 3, 3])
    assert table.loc[0, ["delta_low", "delta_high", "delta_p"]].tolist() == pytest.approx(
        [interval.low, interval.high, expected.pvalue]
    )


def test_gaps_of_other_seeds_are_welchs() -> None:
    one, other = {0: 81.0, 1: 80.2, 2: 80.9}, {5: 80.0, 6: 79.0}
    table = gaps([(one, other), (one, {0: 80.0, 6: 79.0})])
    expected = stats.ttest_ind(list(one.values()), list(other.values()), equal_var=False)
    interval = expected.confidence_interval(0.95)
    for row in (0, 1):  # one shared seed pairs nothing
        assert table.loc[row, "paired"] is False
        assert table.loc[row, ["delta_low", "delta_high", "delta_p"]].tolist() == pytest.approx(
            [interval.low, interval.high, expected.pvalue]
        )


def test_rows_keep_their_places_among_pairs_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for seeds in (3, 2, 5, 3, 1, 4):
        pairs += [(dict(enumerate(rng.normal(80, 1, seeds))), dict(enumerate(rng.normal(80, 1, seeds)))), None]
    table = gaps(pairs)
    for row, pair in enumerate(pairs):
        if pair is None:
            assert table.loc[row, ["delta", "delta_p", "more_seeds"]].isna().all()
        else:
            ours, theirs = (list(sample.values()) for sample in pair)
            assert table.loc[row, "delta"] == pytest.approx(np.mean(ours) - np.mean(theirs))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = stats.ttest_rel(ours, theirs).pvalue
            assert table.loc[row, "delta_p"] == pytest.approx(expected, nan_ok=True)


def test_holm_by_hand() -> None:
    spread = np.array([-1.0, 0.0, 1.0])  # std 1 over three seeds: t is the gap times the root of 3
    pairs = [(dict(enumerate(gap + spread)), {0: 0.0, 1: 0.0, 2: 0.0}) for gap in (0.2, 30.0, 5.0, 3.0)]
    table = gaps(pairs)
    p = table["delta_p"].to_numpy()
    assert p == pytest.approx([2 * stats.t.sf(gap * math.sqrt(3), 2) for gap in (0.2, 30.0, 5.0, 3.0)])
    smallest = sorted(p)
    by_hand = np.maximum.accumulate([smallest[0] * 4, smallest[1] * 3, smallest[2] * 2, smallest[3]])
    assert sorted(table["delta_p_holm"]) == pytest.approx(list(np.minimum(by_hand, 1)))
    told = (table["delta_p_holm"] < 0.05).tolist()
    assert told == [False, True, True, False]
    assert (table["more_seeds"] == 0).tolist() == told


def test_one_seed_and_no_variance_test_nothing() -> None:
    table = gaps([({0: 81.0}, {0: 80.0}), ({0: 81.0, 1: 82.0}, {0: 80.0, 1: 81.0}), ({0: 80.1, 1: 80.4}, {0: 80.0})])
    assert table["delta"].tolist() == pytest.approx([1.0, 1.0, 0.25])
    assert table["delta_n"].tolist() == [1, 2, 1]
    assert table[["delta_low", "delta_high", "delta_p", "delta_p_holm", "more_seeds"]].isna().all(axis=None)
    assert gaps([None, ({}, {0: 1.0})])["delta"].isna().all()
    assert len(gaps([])) == 0


@pytest.mark.parametrize(("gap", "alpha"), [(3.0, 0.05), (1.0, 0.05), (0.5, 0.05), (0.2, 0.05), (1.0, 0.05 / 16)])
def test_seeds_needed(gap: float, alpha: float) -> None:
    expected = math.ceil(TTestPower().solve_power(gap, power=0.8, alpha=alpha))
    assert seeds_for(np.array([gap, gap * 7]), np.array([1.0, 7.0]), alpha).tolist() == [expected, expected]


def test_a_gap_of_nothing_takes_no_number_of_seeds() -> None:
    assert seeds_for(np.array([0.0, 1e-4]), np.array([1.0, 1.0])).tolist() == [math.inf, math.inf]
    assert seeds_for(np.array([1000.0]), np.array([1.0])).tolist() == [2.0]


def test_the_intervals_cover_what_they_say() -> None:
    """4,000 studies of three seeds with a known mean and a known gap; 0.95 ± 3 standard errors of the share."""
    rng = np.random.default_rng(1)
    of_seed = rng.normal(0, 1, (4000, 1, 3))  # a seed's luck, shared by both designs
    runs = 80 + of_seed + rng.normal(0, 0.5, (4000, 2, 3))
    runs[:, 1] += 0.7
    samples = [(dict(enumerate(better)), dict(enumerate(worse))) for worse, better in runs]
    bound = 3 * math.sqrt(0.95 * 0.05 / 4000)
    table = gaps(samples)
    assert abs(((table["delta_low"] < 0.7) & (table["delta_high"] > 0.7)).mean() - 0.95) < bound
    table = means([better for better, _ in samples])
    assert abs(((table["low"] < 80.7) & (table["high"] > 80.7)).mean() - 0.95) < bound
