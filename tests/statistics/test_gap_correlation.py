"""The correlation of gaps, against scipy's correlation and permutation test, by hand, and a simulation of coverage."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from roadmap.statistics import gap_correlation as module
from roadmap.statistics.gap_correlation import Levels, gap_correlation, resolved

CHAIN = np.array([(step, step - 1) for step in range(1, 9)])


def exact(mean: np.ndarray) -> Levels:
    return Levels(mean, np.zeros(len(mean)), np.ones(len(mean), int), np.ones(len(mean)))


def test_without_errors_it_is_pearsons_and_the_larger_p_of_two_permutation_tests() -> None:
    source = np.random.default_rng(3)
    ours, theirs = source.normal(size=(2, 9)).cumsum(axis=1)
    ours = ours + 0.8 * theirs
    found = gap_correlation(exact(ours), exact(theirs), CHAIN)
    gaps, fixed = np.diff(ours), np.diff(theirs)
    assert found.r == pytest.approx(stats.pearsonr(gaps, fixed).statistic)
    assert np.isnan([found.low, found.high]).all()

    def p_of(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
        test = stats.permutation_test(
            (values,), statistic, permutation_type="pairings", alternative="greater", n_resamples=1999, rng=source
        )
        return float(test.pvalue)

    by_gaps = p_of(gaps, lambda values: float(np.corrcoef(values, fixed)[0, 1]))
    by_levels = p_of(ours, lambda values: float(np.corrcoef(np.diff(values), fixed)[0, 1]))
    assert found.p == pytest.approx(max(by_gaps, by_levels), abs=0.03)
    assert 0.001 < found.p < 0.5


def test_uncertain_gaps_count_for_little() -> None:
    source = np.random.default_rng(0)
    theirs = source.normal(size=9).cumsum()
    ours = theirs.copy()
    ours[8] -= 5  # a leaf of the tree, and its only gap
    loud = exact(ours)
    loud = Levels(ours, np.r_[loud.variance[:8], 1e6], loud.n, loud.df)
    assert gap_correlation(exact(ours), exact(theirs), CHAIN).r < 0.8
    assert gap_correlation(loud, exact(theirs), CHAIN).r > 0.999


def test_levels_of_one_seed_have_the_pooled_variance() -> None:
    std, n = np.array([0.1, 0.2, np.nan, 0.3, 0.2]), np.array([3, 3, 1, 2, 3])
    levels = Levels.of(np.zeros(5), std, n)
    assert levels.variance[2] == pytest.approx((2 * 0.01 + 2 * 0.04 + 0.09 + 2 * 0.04) / 7)
    assert levels.df[2] == 7
    assert (levels.variance >= np.nan_to_num(std) ** 2 - 1e-12).all()
    assert np.isnan(Levels.of(np.zeros(2), np.full(2, np.nan), np.ones(2, int)).variance).all()


def test_resolved_gaps_by_hand() -> None:
    # error of a gap: √(2 · 0.04 / 2) = 0.2, with 2 · 4 degrees of freedom; Student's t of 8 is 2.306
    levels = Levels(np.array([0.0, 0.46, 0.93]), np.full(3, 0.04), np.full(3, 2), np.full(3, 4.0))
    assert resolved(levels, np.array([(1, 0), (2, 1)])).tolist() == [False, True]


@pytest.mark.parametrize(("noise", "true_share"), [(0.2, 0.5), (1.0, 0.5), (1.0, 0.0)])
def test_the_interval_covers(monkeypatch: pytest.MonkeyPatch, noise: float, true_share: float) -> None:
    monkeypatch.setattr(module, "PERMUTATIONS", 1)
    monkeypatch.setattr(module, "REPETITIONS", 200)
    source, studies, covered = np.random.default_rng(0), 300, 0
    edges = np.array([(step, step - 1) for step in range(1, 17)])
    for _ in range(studies):
        theirs = np.r_[0, source.normal(size=16)].cumsum()
        ours = true_share * theirs + np.r_[0, source.normal(size=16)].cumsum()
        levels = []
        for true, spread in ((ours, noise), (theirs, 0.1)):
            runs = true + source.normal(0, spread, (3, 17))
            levels.append(Levels.of(runs.mean(axis=0), runs.std(axis=0, ddof=1), np.full(17, 3)))
        found = gap_correlation(*levels, edges)
        covered += found.low <= np.corrcoef(np.diff(ours), np.diff(theirs))[0, 1] <= found.high
    # the weights hardly differ, so the true correlation is nearly the unweighted one
    assert covered / studies >= 0.92
