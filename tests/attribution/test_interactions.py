"""Interactions of measured sets against games whose main effects and pairs are known."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from roadmap.attribution.interactions import explained, measured
from roadmap.comparison.statistics import Sample

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(autouse=True)
def little_garbage() -> Iterator[None]:
    """statsmodels calls for a search of all garbage, which takes longer than its work."""
    gc.freeze()
    yield
    gc.unfreeze()


def value(mask: int, pair: float) -> float:
    """Main effects 1 to 5 (of a to e), and a with c add ``pair`` beyond themselves."""
    return sum(place + 1.0 for place in range(5) if mask >> place & 1) + pair * (mask & 0b101 == 0b101)


def samples(pair: float, noise: float, seeds: int, rng: np.random.Generator) -> dict[int, Sample]:
    return {mask: {s: value(mask, pair) + noise * rng.normal() for s in range(seeds)} for mask in range(32)}


def test_a_pair_is_found_with_its_size() -> None:
    found = measured(NAMES, samples(2.0, 0.3, 3, np.random.default_rng(0)))
    assert found is not None
    told = found.pairs[found.pairs["p_holm"] < 0.05]
    assert [*zip(told["first"], told["second"], strict=True)] == [("a", "c")]
    assert told["estimate"].iloc[0] == pytest.approx(2, abs=3 * told["se"].iloc[0])
    assert found.f_p < 0.001
    assert "depends on the others" in found.sentence()
    assert (found.sets, found.terms, found.left_out, found.f_df) == (32, 16, 0, (10, 16))


def test_the_additive_share_is_corrected_for_seed_noise() -> None:
    """Additive designs: all of the variance beyond noise, however large the noise."""
    rng = np.random.default_rng(1)
    found = [measured(NAMES, samples(0.0, 2.0, 2, rng)) for _ in range(60)]
    assert np.mean([each.additive for each in found if each]) == pytest.approx(1, abs=0.03)
    # of set means over two seeds: 2² / 2 against the variance of main effects, (1 + 4 + 9 + 16 + 25) / 4
    expected = 2 / (2 + 55 / 4 * 32 / 31)
    assert np.mean([each.noise for each in found if each]) == pytest.approx(expected, rel=0.1)
    # and pairs that are not there are found as often as a test at 5 % does
    assert np.mean([each.f_p < 0.05 for each in found if each]) < 0.15


def test_designs_that_differ_by_noise_alone_say_nothing() -> None:
    rng = np.random.default_rng(3)
    same = {mask: {seed: 90 + rng.normal() for seed in range(3)} for mask in range(32)}
    found = measured(NAMES, same)
    assert found is not None
    assert found.noise > 0.5
    if found.noise >= 1:
        assert "say nothing of interactions" in found.sentence()


def test_pairs_of_which_one_needs_the_other_are_left_out() -> None:
    rng = np.random.default_rng(2)
    runs = {mask: sample for mask, sample in samples(2.0, 0.1, 2, rng).items() if not (mask & 0b10 and not mask & 1)}
    found = measured(NAMES, runs)
    assert found is not None
    assert found.left_out == 1
    assert not ((found.pairs["first"] == "a") & (found.pairs["second"] == "b")).any()
    row = found.pairs[(found.pairs["first"] == "a") & (found.pairs["second"] == "c")]
    assert row["estimate"].item() == pytest.approx(2, abs=0.3)


def test_few_designs_tell_main_effects_or_nothing() -> None:
    one_by_one = {mask: {0: value(mask, 0)} for mask in (0, 1, 2, 4, 8, 16, 31, 30)}
    found = measured(NAMES, one_by_one)
    assert found is not None
    assert found.additive == pytest.approx(1)
    assert len(found.pairs) == 0
    assert "adjusted R²; with one seed each" in found.sentence()
    assert "takes more than" in found.sentence()
    assert measured(NAMES, {mask: {0: 1.0} for mask in (0, 1, 2)}) is None


def test_known_values_are_explained_exactly() -> None:
    additive, pairs = explained(np.array([value(mask, 0) for mask in range(32)]))
    assert (additive, pairs) == (pytest.approx(1), pytest.approx(1))
    # v = 4 for both: of four sets 0, 0, 0, 4 the main effects explain 2/3
    additive, pairs = explained(np.array([0.0, 0, 0, 4]))
    assert (additive, pairs) == (pytest.approx(2 / 3), pytest.approx(1))
    # three together, of eight sets: variance 7/64; main effects 3/64, pairs 3/64
    additive, pairs = explained(np.array([0.0] * 7 + [1]))
    assert (additive, pairs) == (pytest.approx(3 / 7), pytest.approx(6 / 7))
    assert np.isnan(explained(np.full(8, 5.0))).all()
