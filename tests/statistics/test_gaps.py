"""Means and gaps, against hand calculations, scipy and statsmodels; the error rates are in test_moderation.py."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind

from roadmap.errors import RequestError
from roadmap.statistics.gaps import GapTest, gaps, means

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


def test_gaps_of_few_groups_are_welchs() -> None:
    """Without enough groups for a prior; unshared seeds are used."""
    one, other = {0: 81.0, 1: 80.2, 2: 80.9}, {0: 80.0, 1: 79.0, 7: 79.6, 9: 79.8}
    table = gaps([(one, other)])
    expected = stats.ttest_ind(list(one.values()), list(other.values()), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert table.loc[0, "paired"] is False
    assert table.loc[0, ["delta", "delta_n"]].tolist() == pytest.approx([80.7 - 79.6, 3])
    assert table.loc[0, ["delta_low", "delta_high", "delta_p", "delta_df"]].tolist() == pytest.approx(
        [interval.low, interval.high, expected.pvalue, expected.df]
    )
    assert table.loc[0, "delta_se"] == pytest.approx((table.loc[0, "delta"]) / expected.statistic)
    assert math.isnan(table.loc[0, "delta_r"])  # two points always correlate


def test_pairing_on_request() -> None:
    table = gaps([(ONE, {2: 79.7, 0: 80.0, 1: 79.9, 9: 10.0}), (ONE, {0: 80.0, 6: 79.0})], GapTest(paired=True))
    expected = stats.ttest_rel(list(ONE.values()), list(OTHER.values()))
    interval = expected.confidence_interval(0.95)
    assert table["paired"].tolist() == [True, False]  # one shared seed pairs nothing
    assert table.loc[0, ["delta", "delta_n"]].tolist() == pytest.approx([(1.0 + 0.3 + 1.2) / 3, 3])
    assert table.loc[0, ["delta_low", "delta_high", "delta_p", "delta_df"]].tolist() == pytest.approx(
        [interval.low, interval.high, expected.pvalue, 2]
    )
    assert table.loc[0, "delta_r"] == pytest.approx(stats.pearsonr(list(ONE.values()), list(OTHER.values())).statistic)


def test_rows_keep_their_places_among_pairs_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for seeds in (3, 2, 5, 3, 1, 4):
        pairs += [(dict(enumerate(rng.normal(80, 1, seeds))), dict(enumerate(rng.normal(80, 1, seeds)))), None]
    table = gaps(pairs, GapTest(paired=True))
    for row, pair in enumerate(pairs):
        if pair is None:
            assert table.loc[row, ["delta", "delta_p", "more_seeds"]].isna().all()
        else:
            ours, theirs = (list(sample.values()) for sample in pair)
            assert table.loc[row, "delta"] == pytest.approx(np.mean(ours) - np.mean(theirs))
            expected = stats.ttest_rel(ours, theirs).pvalue if len(ours) > 1 else math.nan
            assert table.loc[row, "delta_p"] == pytest.approx(expected, nan_ok=True)


def table_of(*effects: float, **settings: object) -> pd.DataFrame:
    """Gaps of samples with equal variances to samples around 0."""
    spread = np.array([-1.0, 0.0, 1.0])
    pairs = [(dict(enumerate(gap + spread)), dict(enumerate(spread))) for gap in effects]
    return gaps(pairs, **settings)


def test_corrections_by_hand() -> None:
    table = table_of(0.2, 30.0, 5.0, 3.0, test=GapTest(correction="bh"))
    p = table["delta_p"].to_numpy()
    smallest = sorted(p)
    by_hand = np.maximum.accumulate([smallest[0] * 4, smallest[1] * 3, smallest[2] * 2, smallest[3]])
    assert sorted(table["delta_p_holm"]) == pytest.approx(list(np.minimum(by_hand, 1)))
    assert table["delta_p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(p))
    assert table["outcome"].tolist() == ["undecided", "better", "better", "better"]
    assert (table["more_seeds"] == 0).tolist() == [False, True, True, True]
    assert "delta_p_bh" not in table_of(0.2, 30.0)


def test_correction_is_for_the_declared_gaps() -> None:
    effects = (1.9, 1.8, 0.3, 2.0)
    p = table_of(*effects)["delta_p"].to_numpy()
    declared = table_of(*effects, declared=[True, True, False, False])
    # the declared two among themselves; the others among all four
    assert declared["delta_p_holm"].tolist()[:2] == pytest.approx([2 * p[0], max(2 * p[0], p[1])])
    whole = table_of(*effects)["delta_p_holm"].tolist()
    assert declared["delta_p_holm"].tolist()[2:] == pytest.approx(whole[2:])
    # three declared gaps without runs count
    counted = table_of(*effects, declared=[True, True, False, False], family=5)["delta_p_holm"]
    assert counted.tolist()[:2] == pytest.approx([5 * p[0], max(5 * p[0], 4 * p[1])])
    assert declared["declared"].tolist() == [True, True, False, False]


def test_equivalence_against_statsmodels() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(80, 0.1, 20), rng.normal(80, 0.2, 12)
    table = gaps([(dict(enumerate(one)), dict(enumerate(other)))], GapTest(equivalence=0.2))
    expected, *_ = ttost_ind(one, other, -0.2, 0.2, usevar="unequal")
    assert table.loc[0, "equal_p"] == pytest.approx(expected)
    assert table.loc[0, "outcome"] == "equal"


@pytest.mark.parametrize(
    ("gap", "spread", "outcome"),
    [
        (0.0, 0.01, "equal"),
        (0.1, 0.01, "equal"),  # different from 0, but within the bounds
        (0.1, 1.0, "undecided"),
        (0.5, 0.01, "better"),
        (-0.5, 0.01, "worse"),
    ],
)
def test_three_outcomes(gap: float, spread: float, outcome: str) -> None:
    values = spread * np.array([-1.0, 0.0, 1.0])
    table = gaps([(dict(enumerate(gap + values)), dict(enumerate(values)))], GapTest(equivalence=0.2))
    assert table.loc[0, "outcome"] == outcome


def test_one_seed_and_no_variance_test_nothing() -> None:
    steady = {0: 80.0, 1: 80.0}
    table = gaps([({0: 81.0}, {0: 80.0}), ({0: 81.0, 1: 81.0}, steady), ({0: 80.1, 1: 80.4}, {0: 80.0})])
    assert table["delta"].tolist() == pytest.approx([1.0, 1.0, 0.25])
    assert table["delta_n"].tolist() == [1, 2, 1]
    assert table[["delta_low", "delta_high", "delta_p", "delta_p_holm", "more_seeds"]].isna().all(axis=None)
    assert table["outcome"].tolist() == ["", "", ""]
    assert gaps([None, ({}, {0: 1.0})])["delta"].isna().all()
    assert len(gaps([])) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"equivalence": 0.0}, "equivalence must be above 0 and at most 100 percentage points (got 0)"),
        ({"equivalence": math.nan}, "equivalence must be above 0 and at most 100 percentage points (got nan)"),
        ({"correction": "bonferroni"}, "unknown correction 'bonferroni' (choose holm or bh)"),
    ],
)
def test_settings_that_are_not_accepted(settings: dict, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        GapTest(**settings)
