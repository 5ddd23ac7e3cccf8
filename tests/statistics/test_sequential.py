"""Sequential tests of gaps: against scipy's tests at each number of seeds, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from roadmap.statistics.gaps import gaps
from roadmap.statistics.sequential import MOST_SEEDS, SequentialGaps, in_order, share
from tests.statistics.gap_simulation import PAIRS, STDS, draw
from tests.statistics.until_simulation import error_of_any_rule, errors_of_the_rule, until_decided

RNG = np.random.default_rng(0)
TWO_GAPS = np.array([(1, 0), (2, 1)])


@pytest.mark.parametrize("start", [2, 3, 5])
def test_shares_of_all_looks_sum_to_one(start: int) -> None:
    assert share(np.arange(start, 1e6), start).sum() == pytest.approx(1, abs=1e-4)


def test_p_is_the_smallest_of_welchs_tests_divided_by_their_shares() -> None:
    """With three groups nothing is moderated."""
    values = RNG.normal([[90.0], [91.0], [91.2]], 1, (3, 8))
    found = SequentialGaps(values, TWO_GAPS, 3, equivalence=2.0)
    for gap, (own, other) in enumerate(TWO_GAPS):
        first = [(values[own, :n], values[other, :n], share(n, 3)) for n in range(3, 9)]
        welch = [stats.ttest_ind(a, b, equal_var=False).pvalue / part for a, b, part in first]
        assert found.p[gap] == pytest.approx(min(*welch, 1))
        equal = [
            max(
                stats.ttest_ind(a + 2, b, equal_var=False, alternative="greater").pvalue,
                stats.ttest_ind(a - 2, b, equal_var=False, alternative="less").pvalue,
            )
            / part
            for a, b, part in first
        ]
        assert found.equal_p[gap] == pytest.approx(min(*equal, 1))
        intervals = [
            stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - 0.05 * part / 2) for a, b, part in first
        ]
        assert found.intervals[0][gap] == pytest.approx(max(low for low, _ in intervals))
        assert found.intervals[1][gap] == pytest.approx(min(high for _, high in intervals))


def test_the_first_look_is_the_test_of_fixed_seeds() -> None:
    values = draw(RNG, 1, STDS["digits'"](), 3)[0]
    samples = [dict(enumerate(row)) for row in values]
    fixed = gaps([(samples[own], samples[other]) for own, other in PAIRS])
    expected = np.minimum(fixed["delta_p"] / share(3, 3), 1)
    assert SequentialGaps(values, PAIRS, 3).p == pytest.approx(expected.to_numpy())


def test_later_seeds_of_other_steps_change_no_p_value() -> None:
    """The p-values do not depend on how seeds are given, which the bound on errors rests on."""
    values = draw(RNG, 1, np.ones(17), 6)[0]
    few = np.where(np.arange(6) < np.where(np.isin(np.arange(17), PAIRS[0]), 6, 3)[:, None], values, np.nan)
    assert SequentialGaps(few, PAIRS, 3).p[0] == pytest.approx(SequentialGaps(values, PAIRS, 3).p[0])


def test_the_next_seed_goes_to_the_gap_that_is_decided_soonest() -> None:
    noise = np.array([-0.1, 0.02, 0.08])
    values = np.array([90 + noise, 90.3 + noise[::-1], 90.31 + noise])
    found = SequentialGaps(values, TWO_GAPS, 3)
    assert not found.decided.any()
    assert found.seeds_to_decide[0] < found.seeds_to_decide[1]
    assert sorted(found.next_steps(1, 100)) == [0, 1]
    assert sorted(found.next_steps(3, 100)) == [0, 1, 2]
    assert found.next_steps(1, 1) == [], "one run decides nothing here"
    ahead = SequentialGaps(in_order([[*values[0], 90.0], values[1].tolist(), values[2].tolist()]), TWO_GAPS, 3)
    assert ahead.next_steps(1, 100) == [1], "the other one has its seed"


def test_nothing_is_trained_for_decided_gaps_and_beyond_the_most_seeds() -> None:
    far = np.array([90.0, 99.0, 70.0])[:, None] + np.array([0.0, 0.01, -0.01, 0.005])
    assert SequentialGaps(far, TWO_GAPS, 3).next_steps(1, 100) == []
    assert SequentialGaps(far, TWO_GAPS, 3).outcomes == ["better", "worse"]
    alike = 90 + 0.01 * RNG.standard_normal((3, 12))
    assert SequentialGaps(alike, TWO_GAPS, 3, equivalence=1.0).outcomes == ["equal", "equal"]
    same = 90 + RNG.standard_normal((3, 1)) * 0 + np.tile([0.0, 1.0], MOST_SEEDS // 2)
    assert SequentialGaps(same, TWO_GAPS, 3).next_steps(1, 100) == []


@pytest.mark.parametrize("name", ["Table 10's", "digits'"])
def test_error_of_any_rule(name: str) -> None:
    """A bound for every way of giving seeds and stopping: a gap found at any number of seeds counts."""
    values = draw(np.random.default_rng(1), 1000, STDS[name](), 12)
    assert 0.002 < error_of_any_rule(values) <= 0.05
    looks = [SequentialGaps(values[..., :n], PAIRS, 3) for n in (3, 6, 9, 12)]
    naive = [look.p * share(np.array(3.0), 3) * 16 < 0.05 for look in looks]
    assert np.any(naive, axis=(0, -1)).mean() > 0.05, "tests at every look without shares are wrong more often"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STDS])
def test_error_of_the_rule(name: str) -> None:
    stds = STDS[name]()
    bound = 1.5 * float(np.median(stds))
    for gap in (0.0, bound):
        error, decided = errors_of_the_rule(np.random.default_rng(2), 200, stds, 120, bound, gap)
        # 3 standard errors of a share of 5 %
        assert error <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
        assert decided > 1


def test_runs_go_where_they_decide() -> None:
    """Of two gaps of 5 and 0.2 standard deviations, the second gets the seeds."""
    accuracies = 90 + RNG.standard_normal((17, MOST_SEEDS)) * 0.1
    accuracies[8:] += 5
    study = until_decided(accuracies, 90)
    assert study.runs <= 90
    decided = study.gaps.decided
    across = (PAIRS[:, 0] >= 8) & (PAIRS[:, 1] < 8)
    assert decided[across].all()
