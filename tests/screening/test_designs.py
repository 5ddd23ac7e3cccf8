"""Screening designs: compared with known optimal designs, exhaustive search and simulated experiments."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from roadmap.errors import RequestError
from roadmap.screening.designs import (
    STARTS,
    ScreeningDesign,
    aliases,
    check_estimable,
    coded,
    d_efficiency,
    exchange,
    hadamard,
    plackett_burman,
    screening_design,
    start,
)

NAMES = tuple("abcdefghijklm")
# The largest determinant of an n x n matrix of -1 and +1 is 2^(n-1) times this (OEIS A003432 and A003433).
MAXIMAL = {5: 48, 6: 160, 7: 576, 8: 4096, 9: 14336, 10: 73728, 11: 327680, 12: 2985984}


def ruled(changes: int, first: int = 1, second: int = 2) -> np.ndarray:
    """The masks of all combinations in which one change needs another."""
    masks = np.arange(2**changes)
    return masks[~((masks >> second & 1 == 1) & (masks >> first & 1 == 0))]


def best_exchange(candidates: np.ndarray, n: int, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    found = [exchange(candidates, start(candidates, n, rng)) for _ in range(STARTS)]
    assert all(len(set(rows.tolist())) == n for rows in found)
    return max(d_efficiency(candidates[rows]) for rows in found)


def test_hadamard_matrices_are_orthogonal() -> None:
    known = [n for n in range(1, 101) if hadamard(n) is not None]
    assert known == [1, 2, *(n for n in range(4, 101, 4) if n not in (52, 92, 100))]
    for n in known:
        matrix = hadamard(n)
        assert matrix is not None
        assert (matrix.T @ matrix == n * np.eye(n)).all()
        assert (matrix[:, 0] == 1).all()


@pytest.mark.parametrize("n", MAXIMAL)
def test_exchange_finds_the_largest_determinants_known(n: int) -> None:
    candidates = coded(np.arange(2 ** (n - 1)), n - 1)
    assert best_exchange(candidates, n) == pytest.approx(MAXIMAL[n] ** (2 / n) / n)


@pytest.mark.parametrize(("changes", "n"), [(11, 12), (10, 12), (5, 16), (7, 16), (5, 20), (5, 24)])
def test_exchange_is_as_efficient_as_plackett_and_burman(changes: int, n: int) -> None:
    assert best_exchange(coded(np.arange(2**changes), changes), n) == pytest.approx(1)


@pytest.mark.parametrize(("changes", "n"), [(8, 16), (10, 20), (12, 20), (12, 24)])
def test_exchange_comes_within_two_percent_where_it_misses_the_optimum(changes: int, n: int) -> None:
    assert best_exchange(coded(np.arange(2**changes), changes), n) > 0.98


@pytest.mark.parametrize(("changes", "n"), [(3, 4), (3, 5), (4, 5), (4, 6), (4, 7), (4, 9)])
def test_exchange_under_a_rule_is_as_good_as_exhaustive_search(changes: int, n: int) -> None:
    candidates = coded(ruled(changes), changes)
    best = max(d_efficiency(candidates[list(rows)]) for rows in combinations(range(len(candidates)), n))
    assert best_exchange(candidates, n) == pytest.approx(best)


@pytest.mark.parametrize(("changes", "n"), [(11, 12), (13, 16), (13, 20), (9, 20), (13, 28)])
def test_without_rules_the_design_is_orthogonal(changes: int, n: int) -> None:
    design = screening_design(NAMES[:changes], np.arange(2**changes), n, 0, [0], 3)
    assert "Plackett-Burman" in design.kind
    assert design.efficiency == pytest.approx(1)
    assert design.standard_errors() == pytest.approx(2 / n**0.5)
    assert len(set(design.masks.tolist())) == n


def test_interactions_alias_a_third_in_plackett_and_burmans_twelve_runs() -> None:
    """Known of their 12-run design: each interaction is partially aliased with all effects but its own two."""
    found = screening_design(NAMES[:11], np.arange(2**11), 12, 0, [0], 0)
    shifts, pairs = found.aliases()
    for column, pair in zip(shifts.T, pairs, strict=True):
        others = [place not in pair for place in range(11)]
        assert np.abs(column[others]) == pytest.approx(1 / 3)
        assert column[np.invert(others)] == pytest.approx(0)


def test_folded_designs_keep_effects_clear_of_interactions() -> None:
    for changes, n in ((13, 32), (12, 24), (6, 16)):
        found = plackett_burman(n, changes, np.random.default_rng(0))
        assert found is not None
        assert found[0] == "folded Plackett-Burman"
        design = screening_design(NAMES[:changes], np.arange(2**changes), n, 0, [0], 0)
        assert design.aliases()[0] == pytest.approx(0)


def test_an_alias_is_the_shift_that_an_interaction_makes() -> None:
    allowed = ruled(5)
    design = screening_design(NAMES[:5], allowed, 14, 0, [0], 0)
    shifts, pairs = aliases(design.masks, allowed, 5)
    assert (1, 2) not in pairs  # no combination has the second without the first
    for place, (i, j) in enumerate(pairs):

        def truth(masks: np.ndarray, i: int = i, j: int = j) -> np.ndarray:
            """Two effects of 3, and 1 more (or less) of each with (without) the other: an interaction of 1."""
            one, other = masks >> i & 1, masks >> j & 1
            return 3 * one + 3 * other + 2 * one * other - one - other

        inside = np.linalg.lstsq(coded(design.masks, 5), truth(design.masks), rcond=None)[0]
        whole = np.linalg.lstsq(coded(allowed, 5), truth(allowed), rcond=None)[0]
        assert shifts[:, place] == pytest.approx(2 * (inside - whole)[1:])


def test_runs_and_seeds() -> None:
    allowed = ruled(13)
    design = screening_design(NAMES, allowed, 51, 6, [0, 1, 2], 0)
    assert set(design.masks.tolist()) <= set(allowed.tolist())
    assert len(set(zip(design.masks.tolist(), design.seeds.tolist(), strict=True))) == 51
    assert np.unique(design.masks, return_counts=True)[1].tolist().count(2) == 6
    assert np.unique(design.seeds, return_counts=True)[1].tolist() == [17, 17, 17]
    assert design.error_df == 45 - 1 - 13  # the replicates tell the seeds apart
    # a rule leaves little room below an orthogonal design, 0.28
    others = np.delete(design.standard_errors(), [1, 2])
    assert others.max() < 0.31


def test_a_design_depends_on_its_seed_alone() -> None:
    first, again, other = (screening_design(NAMES[:6], ruled(6), 18, 3, [0, 1, 2], seed) for seed in (0, 0, 1))
    assert (again.masks == first.masks).all()
    assert (again.seeds == first.seeds).all()
    assert (other.masks != first.masks).any()


def test_more_runs_than_combinations_repeat_them_with_other_seeds() -> None:
    design = screening_design(NAMES[:3], ruled(3), 16, 4, [5, 6, 7], 0)
    assert design.kind == "all combinations"
    assert len(set(zip(design.masks.tolist(), design.seeds.tolist(), strict=True))) == 16
    assert set(design.masks.tolist()) == set(ruled(3).tolist())


def test_power_is_that_of_simulated_experiments() -> None:
    from roadmap.screening.effects import least_squares

    design = screening_design(NAMES[:6], ruled(6), 20, 0, [0, 1], 0)
    rng = np.random.default_rng(0)
    for effect in (0.5, 1.0, 2.0):
        values = design.matrix[:, 1:2] * effect / 2 + rng.normal(size=(20, 20_000))
        coefficients, rss = least_squares(design.matrix, values)
        t = 2 * coefficients[1] / (design.standard_errors()[0] * np.sqrt(rss / design.error_df))
        from scipy.stats import t as student

        found = (np.abs(t) > student.ppf(1 - 0.01 / 2, design.error_df)).mean()
        assert design.power(effect, 0.01)[0] == pytest.approx(found, abs=0.01)


def test_power_grows_with_the_effect_without_end() -> None:
    design = screening_design(NAMES[:6], ruled(6), 20, 2, [0, 1], 0)
    powers = [design.power(effect, 0.05 / 6)[0] for effect in (0.1, 0.5, 1, 2, 5, 20, 100)]
    assert all(less <= more + 1e-9 for less, more in pairwise(powers))
    assert powers[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "replicates", "seeds", "words"),
    [
        (5, 0, [0], r"^study.n=5 is too small: 5 effects and a constant need at least 6 runs$"),
        (
            9,
            4,
            [0, 1],
            r"^study.n=9 is too small: 5 effects, a constant and 1 difference between seeds .* 10 runs, 4 of",
        ),
        (12, 2, [0], r"^study.replicates=2 needs a second seed \(got seeds=\[0\]\)"),
        (49, 0, [0, 1], r"^study.n=49 is too large: 24 combinations are allowed, which with 2 seeds are 48 runs$"),
    ],
)
def test_wrong_numbers_of_runs(n: int, replicates: int, seeds: list[int], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        screening_design(NAMES[:5], ruled(5), n, replicates, seeds, 0)


def test_effects_that_cannot_be_estimated_are_named() -> None:
    masks = np.arange(8)
    with pytest.raises(RequestError, match="cannot estimate the effect of b: no allowed combination has it"):
        check_estimable("abc", coded(masks[masks >> 1 & 1 == 0], 3))
    with pytest.raises(RequestError, match="cannot estimate the effect of c: every allowed combination has it"):
        check_estimable("abc", coded(masks[masks >> 2 & 1 == 1], 3))
    together = masks[(masks & 1) == (masks >> 2 & 1)]
    with pytest.raises(RequestError, match="cannot tell the effects of a and c apart"):
        check_estimable("abc", coded(together, 3))


def test_the_saturated_design_has_no_power() -> None:
    design = screening_design(NAMES[:11], np.arange(2**11), 12, 0, [0], 0)
    assert isinstance(design, ScreeningDesign)
    assert design.error_df == 0
    assert np.isnan(design.power(1, 0.05)).all()
