"""Agreement with the paper: each step's by hand, the whole's against simulated studies."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from charts import texts
from scipy import stats

import roadmap
from roadmap.comparison.agreement import paper_levels, path_edges, step_verdict, with_paper
from roadmap.comparison.compare import compare
from roadmap.comparison.groups import Baseline
from roadmap.paper.published import published_steps
from roadmap.steps.path_file import paper_parents
from tests.comparison.agreement_simulation import COPIES, NOISES, NULLS, shares
from tests.records import EXAMPLES, record, write


def made(tmp_path: Path, gaps_by: float, noise: float, seeds: int = 3, leave_out: tuple[str, ...] = ()) -> pd.DataFrame:
    """Runs whose gaps are the paper's times ``gaps_by``."""
    steps, random = published_steps("tiny"), np.random.default_rng(0)
    runs = [
        record(variant, seed, 80 + gaps_by * (steps[variant].top1 - 80) + random.normal(0, noise))
        for seed in range(seeds)
        for variant in paper_parents()
        if variant not in leave_out
    ]
    return roadmap.load_runs(write(tmp_path, *runs))


def test_a_proxy_that_does_as_the_paper_agrees(tmp_path: Path) -> None:
    comparison = compare(made(tmp_path, 1.0, 0.05))
    (agreement,) = comparison.agreements
    assert agreement.correlation > 0.99
    assert agreement.low > 0.95
    assert (agreement.gaps, agreement.resolved, agreement.same_sign) == (16, 10, 10)
    assert agreement.fitting >= 14
    assert agreement.verdict == "agrees"
    assert "nano on digits at 32 pixels, 30 epochs: agrees with the paper" in str(comparison)
    verdicts = comparison.table.set_index("variant")["verdict"]
    assert verdicts["increase_width"] == "better, as the paper; the paper's +2.22 fits"


def test_smaller_gaps_agree_but_do_not_fit(tmp_path: Path) -> None:
    (agreement,) = compare(made(tmp_path, 0.3, 0.05)).agreements
    assert agreement.verdict == "agrees"
    assert agreement.fitting <= agreement.measured - 6


def test_opposite_gaps_and_gaps_of_equal_size_are_no_agreement(tmp_path: Path) -> None:
    (opposite,) = compare(made(tmp_path / "a", -1.0, 0.05)).agreements
    assert (opposite.verdict, opposite.same_sign) == ("no evidence of agreement", 0)
    assert opposite.correlation < -0.99
    flat = made(tmp_path / "b", 0.0, 0.0)
    assert compare(flat).agreements == []


def test_one_seed_has_a_verdict_but_no_interval(tmp_path: Path) -> None:
    comparison = compare(made(tmp_path, 1.0, 0.05, seeds=1))
    (agreement,) = comparison.agreements
    assert (agreement.verdict, agreement.measured) == ("agrees", 0)
    assert np.isnan(agreement.low)
    assert "over seeds" not in str(comparison)


def test_missing_steps_and_baselines_do_not_change_what_is_a_gap(tmp_path: Path) -> None:
    runs = made(tmp_path, 1.0, 0.05, leave_out=("kernel_5", "inverted_bottleneck"))
    (agreement,) = compare(runs).agreements
    # move_up_depthwise is compared with increase_width
    assert agreement.gaps == 14
    (other,) = compare(runs, Baseline("resnet50")).agreements
    assert (other.correlation, other.p) == (agreement.correlation, agreement.p)
    assert compare(runs[runs["variant"].isin(["resnet50", "enhanced_recipe", "gelu"])]).agreements == []
    assert path_edges(["resnet50", "move_up_depthwise", "kernel_9", "gelu"]).tolist() == [[1, 0], [2, 1], [3, 1]]


def test_a_step_fits_if_the_difference_of_both_gaps_may_be_0() -> None:
    row = {"regime": "nano", "variant": "kernel_7", "parent": "move_up_depthwise", "delta_n": 3, "outcome": "better"}
    names, levels = paper_levels("tiny")
    places = [names.index(name) for name in ("kernel_7", "move_up_depthwise")]
    # by hand: 80.57 - 79.92, and Welch's error of two means over three seeds
    error = np.sqrt((levels.variance[places] / 3).sum())
    own = 0.1
    df = (own**2 + error**2) ** 2 / (own**4 / 4 + (levels.variance[places] ** 2 / 9 / levels.df[places]).sum())
    half = stats.t.ppf(0.975, df) * np.hypot(own, error)
    for off, fits in ((0.98 * half, True), (1.02 * half, False), (-0.98 * half, True), (-1.02 * half, False)):
        (found,) = with_paper(pd.DataFrame([row | {"delta": 0.65 + off, "delta_se": own, "delta_df": 4}])).itertuples()
        assert found.paper_delta == 0.65
        assert found.paper_delta_se == pytest.approx(error)
        assert found.fits is fits
        assert found.paper_resolved is True
        assert found.verdict == f"better, as the paper; the paper's +0.65 {'fits' if fits else 'does not fit'}"


def test_steps_without_a_published_deviation_have_the_pooled_one() -> None:
    names, levels = paper_levels("tiny")
    known = [row.top1_std for row in published_steps("tiny").values() if row.top1_std is not None]
    pooled = np.mean(np.square(known))
    assert (names[0], levels.n[0]) == ("resnet50", 1)
    assert levels.variance[0] == pytest.approx(pooled)
    base = paper_levels("base")[1]
    np.testing.assert_allclose(base.variance, pooled)
    assert set(base.n) == {1}
    assert paper_levels("unknown")[0] == ()


STEP: dict[str, Any] = {"delta": 1.0, "delta_n": 3, "outcome": "better", "paper_delta": 0.8}
STEP |= {"paper_resolved": True, "fits": True}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"delta": float("nan")}, ""),
        ({"outcome": "", "delta_n": 1}, "one seed: no verdict"),
        ({"outcome": ""}, "seeds do not vary: no verdict"),
        ({}, "better, as the paper; the paper's +0.80 fits"),
        ({"paper_delta": -0.8, "fits": False}, "better, against the paper; the paper's -0.80 does not fit"),
        ({"outcome": "worse", "delta": -1.0, "paper_delta": -0.8}, "worse, as the paper; the paper's -0.80 fits"),
        ({"paper_resolved": False, "paper_delta": -0.1}, "better; the paper's -0.10 fits"),
        ({"paper_delta": float("nan")}, "better"),
        ({"outcome": "undecided"}, "undecided; the paper's +0.80 fits"),
        ({"outcome": "equal", "fits": False}, "equal; the paper's +0.80 does not fit"),
    ],
)
def test_verdicts_of_steps(changes: dict[str, Any], verdict: str) -> None:
    assert step_verdict(STEP | changes) == verdict


def test_the_examples_say_nothing_about_imagenet() -> None:
    comparison = roadmap.compare(EXAMPLES)
    (agreement,) = comparison.agreements
    assert agreement.verdict == "no evidence of agreement"
    assert "no evidence of agreement with the paper: its gaps say nothing about ImageNet" in str(comparison)
    # of the paper's 10 gaps: enhanced_recipe, depthwise_conv … by the README's table
    table = comparison.table[comparison.table["paper_resolved"].eq(True)]
    assert agreement.same_sign == ((table["delta"] > 0) == (table["paper_delta"] > 0)).sum()


def test_the_figure_says_the_same_word() -> None:
    chart = roadmap.figure(EXAMPLES, kind="deltas")
    assert "30 epochs: no evidence of agreement with the paper." in " ".join(texts(chart))


@pytest.mark.parametrize("name", ["random gaps, normal", "the paper's gaps, shuffled", "no gaps: noise only"])
def test_random_proxies_do_not_agree(name: str) -> None:
    found = shares(NULLS[name], NOISES["0.5"], 3, 150)
    # 5 % plus two and a half standard errors; correlating levels finds agreement in 22 % and 84 % of the first two
    assert sum(found.values()) <= 0.095


def test_noisy_copies_of_the_paper_agree() -> None:
    assert sum(shares(COPIES["the paper's gaps"], NOISES["0.22 to 1.6"], 3, 100).values()) >= 0.9


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", NULLS)
def test_at_most_one_random_proxy_in_twenty_agrees(name: str, noise: str, seeds: int) -> None:
    # plus 2.5 standard errors
    assert sum(shares(NULLS[name], NOISES[noise], seeds, 1000, seed=1).values()) <= 0.067


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_nine_in_ten_noisy_copies_agree(noise: str) -> None:
    assert sum(shares(COPIES["the paper's gaps"], NOISES[noise], 3, 500, seed=1).values()) >= 0.9
