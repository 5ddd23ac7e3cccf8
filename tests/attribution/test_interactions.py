"""Interactions of pairs: against statsmodels, by hand, and simulations of the error rate."""

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from roadmap.attribution.interactions import PairModel, _model_columns, explained, interactions_of
from tests.attribution.interaction_simulation import ERRORS, false_findings, masks_of_orders

NAMES = [f"c{place}" for place in range(5)]


def study(interaction: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    masks = np.arange(32)
    values = 80 + masks % 4 + interaction * (masks & 3 == 3) + source.normal(0, noise, 32) * (1 + (masks & 1))
    return masks, values


def test_coefficients_errors_and_f_are_statsmodels() -> None:
    masks, values = study(2.0, 1.0)
    mains, products, _ = _model_columns(masks, 5)
    estimate, se, f = PairModel(mains, products).fit(values[None])
    fitted = OLS(values, np.hstack([mains, products])).fit()
    np.testing.assert_allclose(estimate[0], fitted.params[6:])
    np.testing.assert_allclose(se[0], fitted.get_robustcov_results("HC3").bse[6:])
    assert f[0] == pytest.approx(fitted.compare_f_test(OLS(values, mains).fit())[0])
    found = interactions_of(NAMES, {int(mask): {0: value} for mask, value in zip(masks, values, strict=True)})
    assert found is not None
    assert found.additive == pytest.approx(OLS(values, mains).fit().rsquared_adj)
    assert (found.sets, found.terms, found.f_df) == (32, 16, (10, 16))
    assert found.f == pytest.approx(f[0])


def test_a_large_interaction_is_found_and_a_small_one_is_not() -> None:
    for size, significant in ((12.0, True), (0.0, False)):
        masks, values = study(size, 0.3)
        found = interactions_of(NAMES, {int(mask): {0: value} for mask, value in zip(masks, values, strict=True)})
        assert found is not None
        first = found.pairs.iloc[0]
        assert (first["first"], first["second"]) == ("c0", "c1")
        assert first["estimate"] == pytest.approx(size, abs=0.6)
        assert (first["p_corrected"] < 0.05) == significant
        assert (found.f_p < 0.05) == significant
        assert (found.pairs["p_corrected"] >= found.pairs["p"]).all()
        assert (found.pairs["p_corrected"].iloc[1:] > 0.05).all()


def test_a_set_that_alone_determines_a_coefficient_proves_nothing() -> None:
    # the only set with both of the first two changes
    masks = np.array([mask for mask in range(32) if mask & 3 < 3] + [3])
    mains, products, pairs = _model_columns(masks, 5)
    p, corrected, _ = PairModel(mains, products).p_values(80 + 30.0 * (masks == 3) + np.sin(masks))
    assert pairs[0] == (0, 1)
    assert p[0] > 0.1
    assert corrected[0] > 0.1


def test_known_values_are_explained_exactly() -> None:
    additive, pairs = explained(np.array([sum(place + 1.0 for place in range(5) if m >> place & 1) for m in range(32)]))
    assert (additive, pairs) == (pytest.approx(1), pytest.approx(1))
    # v = 4 for both: of four sets 0, 0, 0, 4 the main effects explain 2/3
    additive, pairs = explained(np.array([0.0, 0, 0, 4]))
    assert (additive, pairs) == (pytest.approx(2 / 3), pytest.approx(1))
    # three together, of eight sets: variance 7/64; main effects 3/64, pairs 3/64
    additive, pairs = explained(np.array([0.0] * 7 + [1]))
    assert (additive, pairs) == (pytest.approx(3 / 7), pytest.approx(6 / 7))
    assert np.isnan(explained(np.full(8, 5.0))).all()


@pytest.mark.parametrize("name", ["equal", "20 with one change, 1 without"])
def test_additive_studies_have_no_interactions(name: str) -> None:
    rates = false_findings(ERRORS[name], changes=6, orders=12, studies=100)
    # 5 % and 2.5 standard errors
    assert rates["pairs"] <= 0.105
    assert rates["F"] <= 0.105


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_additive_studies_of_13_changes_have_no_interactions(name: str) -> None:
    assert len(masks_of_orders(13, 20, np.random.default_rng(0))) > 200
    rates = false_findings(ERRORS[name], changes=13, orders=20, studies=300)
    assert rates["pairs"] <= 0.08


@pytest.mark.slow
def test_an_interaction_of_four_standard_deviations_is_found() -> None:
    assert false_findings(ERRORS["equal"], changes=13, orders=20, studies=50, effect=20.0)["pair"] >= 0.8
