"""Main effects from runs: least squares against statsmodels, and intervals and tests on simulated experiments."""

import numpy as np
import pandas as pd
import pytest

from roadmap.screening.designs import ScreeningDesign, coded, screening_design
from roadmap.screening.effects import estimates, lack_of_fit, pure_error
from tests.screening.test_designs import NAMES, ruled

SEEDS = [0, 1, 2]


def design(changes: int, n: int, replicates: int = 4) -> ScreeningDesign:
    return screening_design(NAMES[:changes], ruled(changes), n, replicates, SEEDS, 0)


def test_estimates_are_those_of_statsmodels() -> None:
    from scipy.stats import t as student
    from statsmodels.formula.api import ols

    found, rng = design(5, 18), np.random.default_rng(0)
    values = rng.normal(90, 1, 18)
    frame = pd.DataFrame({name: found.masks >> place & 1 for place, name in enumerate(found.names)})
    frame = frame.assign(seed=found.seeds, value=values, key=found.masks)
    fitted = ols("value ~ a + b + c + d + e + C(seed)", frame).fit()
    # lack of fit: the F-test of main effects against a mean for each combination
    full = ols("value ~ C(key) + C(seed)", frame).fit()
    f, p, df = full.compare_f_test(fitted)
    # the error is lack of fit, without the replicates' differences
    scale = (f * full.mse_resid / fitted.mse_resid) ** 0.5
    table = estimates(found, values)
    effects, errors = fitted.params.loc[list("abcde")].to_numpy(), fitted.bse.loc[list("abcde")].to_numpy() * scale
    assert table["effect"].to_numpy() == pytest.approx(effects)
    assert table["se"].to_numpy() == pytest.approx(errors)
    assert table["p"].to_numpy() == pytest.approx(2 * student.sf(np.abs(effects) / errors, df))
    assert table["high"].to_numpy() == pytest.approx(effects + student.ppf(0.975, df) * errors)
    fit = lack_of_fit(found, values, (found.masks, found.seeds, values))
    assert (fit.f, fit.p, fit.df, fit.pure_df) == pytest.approx((f, p, df, full.df_resid))
    assert fit.sd == pytest.approx(full.mse_resid**0.5)


def test_pure_error_is_the_variance_between_seeds_of_one_design() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (4, 3)) + 10 * rng.normal(0, 1, (4, 1)) + np.array([0, 5, -5])
    keys = np.repeat(np.arange(4), 3)
    ss, df, designs = pure_error([*keys, 99], [0, 1, 2] * 4 + [0], [*values.ravel(), 1000.0])
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    assert (ss, df, designs) == (pytest.approx((residuals**2).sum()), 6, 4)
    assert pure_error([1, 2], [0, 0], [1.0, 2.0]) == (0.0, 0, 0)
    assert pure_error([1, 1], [0, 1], [1.0, 3.0]) == (pytest.approx(0), 0, 1)  # the seeds explain it


def test_without_residuals_there_are_no_intervals() -> None:
    saturated = screening_design(NAMES[:4], ruled(4), 5, 0, [0], 0)
    table = estimates(saturated, np.arange(5.0))
    assert table["effect"].notna().all()
    assert table[["se", "low", "high", "p", "p_holm"]].isna().all(axis=None)


def experiments(found: ScreeningDesign, count: int, noise: str, interactions: float, seed: int) -> dict[str, float]:
    """Return the share of intervals that cover the effect over all combinations, of experiments with a false discovery,
    and of those with a significant lack of fit.

    Half the effects are 0. Each experiment has a new additive truth, new interactions and, but for the fixed ``found``,
    a design of its own: interactions and noise of one fixed design are no random sample.
    """
    rng, k = np.random.default_rng(seed), len(found.names)
    covered = wrong = unfit = 0
    space = coded(found.allowed, k)
    for _ in range(count):
        effects = np.where(np.arange(k) % 2, rng.normal(0, 2, k), 0.0)
        pairs = rng.normal(0, interactions, (k, k)) / 4
        sd = np.exp(rng.uniform(np.log(0.22), np.log(1.6), len(found.masks))) if noise == "unequal" else 1.0

        def mean(masks: np.ndarray, effects: np.ndarray = effects, pairs: np.ndarray = pairs) -> np.ndarray:
            signs = coded(masks, k)[:, 1:]
            return signs @ effects / 2 + np.einsum("ni,ij,nj->n", signs, pairs, signs)

        draws = rng.standard_t(5, len(found.masks)) if noise == "heavy" else rng.normal(size=len(found.masks))
        shared = rng.normal(0, 1, len(SEEDS))[found.seeds]
        values = mean(found.masks) + shared + sd * draws
        truth = 2 * np.linalg.lstsq(space, mean(found.allowed), rcond=None)[0][1:]
        table = estimates(found, values)
        covered += int(((table["low"] <= truth) & (truth <= table["high"])).sum())
        wrong += bool(((table["p_holm"] < 0.05) & (np.abs(truth) < 1e-9)).any())
        unfit += lack_of_fit(found, values, (found.masks, found.seeds, values)).p < 0.05
    return {"coverage": covered / count / k, "family-wise error": wrong / count, "lack of fit": unfit / count}


def test_intervals_cover_and_errors_are_rare() -> None:
    found = experiments(design(5, 18), 400, "equal", 0.0, 0)
    assert 0.93 < found["coverage"] < 0.97
    assert found["family-wise error"] < 0.075
    assert found["lack of fit"] < 0.08


def test_large_interactions_show_as_lack_of_fit() -> None:
    assert experiments(design(5, 18, 6), 100, "equal", 4.0, 0)["lack of fit"] > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("n", [24, 51])
@pytest.mark.parametrize("noise", ["equal", "unequal", "heavy"])
def test_intervals_cover_and_errors_are_rare_at_length(n: int, noise: str) -> None:
    found = experiments(design(13, n), 2000, noise, 0.0, 1)
    assert 0.93 < found["coverage"] < 0.97
    assert found["family-wise error"] < 0.06
    if noise == "equal":
        assert found["lack of fit"] < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("n", [24, 51])
def test_intervals_cover_the_effects_over_the_space_despite_interactions(n: int) -> None:
    """Interactions act as more noise between combinations; of 24 runs, 4 degrees of freedom are little to tell."""
    found = experiments(design(13, n), 2000, "equal", 1.0, 2)
    assert 0.92 < found["coverage"] < 0.98
