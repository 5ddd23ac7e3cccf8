"""Reliability of designs against a published example and simulations; effects of an axis by hand."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from roadmap.design_spaces.edf import DesignSample, cautions, sample_sentences
from roadmap.design_spaces.reliability import axis_effects, reliability

# Shrout and Fleiss (1979), Table 2: six targets, four judges; Table 4: ICC(3, 1) = 0.71
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def by_seed(rows: Sequence[Sequence[float]]) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in rows]


def test_the_published_example() -> None:
    found = reliability(by_seed(RATINGS))
    assert found is not None
    assert found.icc == pytest.approx(0.71, abs=0.005)
    # the interval of R's psych::ICC for these data
    assert (found.low, found.high) == (pytest.approx(0.34, abs=0.005), pytest.approx(0.95, abs=0.005))


def test_seeds_that_most_designs_share_count() -> None:
    found = reliability(by_seed(RATINGS))
    # a seed that is better for all designs, another seed of one design, and a design with one seed
    shifted = by_seed((np.array(RATINGS) + np.array([0, 5, 0, 0])).tolist())
    again = reliability([*shifted[:5], {**shifted[5], 9: 100.0}, {0: 5.0}])
    assert found is not None
    assert again is not None
    assert (again.icc, again.designs) == (pytest.approx(found.icc), 6)
    assert reliability(by_seed([[1, 2], [3]])) is None
    assert reliability([{0: 1.0, 1: 1.0}, {0: 3.0, 1: 3.0}]) is None
    assert reliability([]) is None


@pytest.mark.parametrize("true", [0.0, 0.5, 0.9])
def test_the_interval_covers(true: float) -> None:
    source, covered, values = np.random.default_rng(0), 0, []
    for _ in range(400):
        levels = source.normal(0, np.sqrt(true), (24, 1))
        found = reliability(by_seed((levels + source.normal(0, np.sqrt(1 - true), (24, 2))).tolist()))
        assert found is not None
        covered += found.low <= true <= found.high
        values.append(found.icc)
    assert 0.925 <= covered / 400 <= 0.98
    assert np.mean(values) == pytest.approx(true, abs=0.04)


def sample(noise: float) -> DesignSample:
    source = np.random.default_rng(0)
    levels = source.normal(10, 1, 30)
    errors = levels[:, None] + source.normal(0, noise, (30, 2))
    designs = pd.DataFrame({"error": errors.mean(axis=1), "seeds": 2, "gmacs": 0.002, "params": 0.5})
    designs = designs.assign(key=range(30), design=[{"width": width} for width in range(30)])
    return DesignSample("these", designs, 0, reliability(by_seed(errors.tolist())))


def test_seed_noise_is_named() -> None:
    noisy, clear = sample(3.0), sample(0.2)
    (caution,) = cautions([noisy])
    assert caution.startswith("caution: errors of these are mostly seed noise: two seeds of a design correlate at ")
    assert cautions([clear]) == []
    (sentence,) = sample_sentences([clear])
    assert sentence.startswith("reliability of these: 0.9")


def test_an_axis_by_pairs_that_differ_in_it_alone() -> None:
    rows = [
        ({"kernel": kernel, "width": width}, 10 + width + (kernel == 7) * delta)
        for width, delta in ((16, -1.0), (20, -2.0), (24, -3.0))
        for kernel in (7, 3)
    ]
    # differs in two axes, or in an axis with two pairs only
    rows += [({"kernel": 5, "width": 28}, 50.0), ({"kernel": 11, "width": 16}, 60.0)]
    designs = pd.DataFrame(rows, columns=["design", "error"])
    found = axis_effects(designs)
    (row,) = found.to_dict("records")
    assert (row["axis"], row["value"], row["other"], row["pairs"]) == ("kernel", "3", "7", 3)
    interval = stats.ttest_1samp([-1.0, -2.0, -3.0], 0).confidence_interval()
    assert (row["delta"], row["low"], row["high"]) == pytest.approx((-2.0, *interval))
    assert axis_effects(designs.iloc[:2]).empty
