"""How often interactions are found where there are none: `python -m tests.attribution.interaction_simulation`."""

from collections.abc import Callable

import numpy as np
from scipy import stats
from statsmodels.regression.linear_model import OLS

from roadmap.attribution.change_subsets import beginnings
from roadmap.attribution.interactions import PairModel, _model_columns

Source = np.random.Generator


def masks_of_orders(changes: int, orders: int, source: Source) -> np.ndarray:
    """The sets of some random orders."""
    return np.unique([beginnings(source.permutation(changes)) for _ in range(orders)])


# errors around additive values, by whether the set has the last change and whether it has the first
ERRORS: dict[str, Callable[[np.ndarray, np.ndarray, Source], np.ndarray]] = {
    "equal": lambda last, first, source: source.normal(0, 5, len(last)),
    "20 with one change, 1 without": lambda last, first, source: source.normal(0, 1, len(last)) * np.where(last, 20, 1),
    "20 with one change and without another, 1 otherwise": lambda last, first, source: (
        source.normal(0, 1, len(last)) * np.where(last & ~first, 20, 1)
    ),
    "a third of one change's sets collapse": lambda last, first, source: (
        source.normal(0, 1, len(last)) + np.where(last, np.where(source.random(len(last)) < 1 / 3, -50, 25), 0)
    ),
    "a tenth of all sets collapse": lambda last, first, source: (
        source.normal(0, 1, len(last)) + np.where(source.random(len(last)) < 0.1, -54, 6)
    ),
}


def false_findings(
    errors: Callable[[np.ndarray, np.ndarray, Source], np.ndarray],
    changes: int,
    orders: int,
    studies: int,
    draws: int = 199,
    effect: float = 0.0,
) -> dict[str, float]:
    """The share of studies in which any pair is significant, and the F-test, by least squares and by the tool.

    ``effect`` is an interaction of the first two changes; with it, ``pair`` is the power to find this one.
    """
    source, found = np.random.default_rng(0), np.zeros(5)
    for _ in range(studies):
        masks = masks_of_orders(changes, orders, source)
        mains, products, pairs = _model_columns(masks, changes)
        values = mains @ source.normal(0, 5, changes + 1) + errors(
            masks >> (changes - 1) & 1 == 1, masks & 1 == 1, source
        )
        values = values + effect * (masks & 3 == 3)
        fitted = OLS(values, np.hstack([mains, products])).fit()
        model = PairModel(mains, products)
        smallest = fitted.pvalues[-len(pairs) :].min()
        _, corrected, f_p = model.p_values(values, draws)
        f = model.fit(values[None])[2][0]
        found += [
            *(smallest * len(pairs) < 0.05, stats.f.sf(f, len(pairs), model.df) < 0.05),
            *((corrected < 0.05).any(), f_p < 0.05, corrected[pairs.index((0, 1))] < 0.05 if (0, 1) in pairs else 0),
        ]
    return dict(zip(("OLS pairs", "OLS F", "pairs", "F", "pair"), found / studies, strict=True))


if __name__ == "__main__":
    print(
        "| errors | least squares, Holm: any pair | F-test | wild bootstrap: any pair | F-test |\n|---|---|---|---|---|"
    )
    for name, errors in ERRORS.items():
        rates = false_findings(errors, 13, 20, 500)
        shown = " | ".join(f"{100 * rates[key]:.1f}" for key in ("OLS pairs", "OLS F", "pairs", "F"))
        print(f"| {name} | {shown} |", flush=True)
