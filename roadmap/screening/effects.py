"""Main effects of changes from the runs of a screening design, and how well main effects alone fit them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadmap.attribution.attribution import paper_deltas
from roadmap.config.compose import Composed
from roadmap.errors import RequestError
from roadmap.runs.identity import check_comparable, check_equally_long, step_key
from roadmap.schema.design import BaselineModel
from roadmap.screening.designs import ScreeningDesign, blocks
from roadmap.statistics.correction import holm
from roadmap.statistics.gaps import CONFIDENCE, gaps
from roadmap.steps.path import Step


@dataclass(frozen=True)
class LackOfFit:
    """The F-test of the residuals of main effects against the variance between seeds of one design.

    ``sd`` is the standard deviation between seeds in percentage points, with ``pure_df`` degrees of freedom from
    ``designs`` with several seeds. ``f`` and ``p`` are NaN if either side has no degrees of freedom.
    """

    f: float
    df: int
    pure_df: int
    p: float
    sd: float
    designs: int


@dataclass(frozen=True)
class MainEffects:
    """The effects of a screening design on top-1 after the last epoch, in percentage points.

    ``table`` has one row per change: ``change``, ``label``, ``section``, ``effect``, ``se``, 95 % interval ``low`` to
    ``high``, ``p`` and ``p_holm``; ``path`` with ``path_se`` and ``path_low`` to ``path_high``, the gap of its step on
    the path, if run; and ``paper``, the paper's gap. Without degrees of freedom for an error there are no intervals.

    ``runs`` are the finished runs of the design, in the order of ``design``; ``planned`` is how many it has.
    ``residual_sd``, between combinations, has ``design.error_df`` degrees of freedom. ``explained`` is the adjusted R²
    within seeds.
    ``furthest`` is the index of the run with the largest residual, and the accuracy that the effects give it.
    """

    design: ScreeningDesign
    table: pd.DataFrame
    runs: pd.DataFrame
    planned: int
    residual_sd: float
    explained: float
    lack_of_fit: LackOfFit
    furthest: tuple[int, float]


def main_effects(
    runs: pd.DataFrame, design: ScreeningDesign, points: Sequence[Composed], steps: Sequence[Step]
) -> MainEffects:
    """Return the effects from the finished ``runs`` of a design, whose runs have the configs ``points``.

    Runs of other designs with several seeds count for the seed noise, and those of the path's ``steps`` for its gaps.
    Raises RequestError if the finished runs do not determine the effects, and for runs that differ in more than design,
    recipe and seed.
    """
    keys = _Keys()
    done = (runs["status"] == "finished") & runs["top1"].notna() & runs["seed"].notna()
    finished = runs[done].reset_index(drop=True)
    check_comparable(finished)
    check_equally_long(finished)
    of_runs = [step_key(each.get("design"), each.get("recipe")) for each in finished["definition"]]
    place = {(key, int(seed)): index for index, (key, seed) in enumerate(zip(of_runs, finished["seed"], strict=True))}
    every = finished.iloc[list(place.values())]
    wanted = [(keys.of(point), seed) for point, seed in zip(points, design.seeds.tolist(), strict=True)]
    found = np.array([pair in place for pair in wanted], bool)
    own = finished.iloc[[place[pair] for pair in wanted if pair in place]].reset_index(drop=True)
    used = ScreeningDesign(design.names, design.allowed, design.masks[found], design.seeds[found], design.kind)
    if not len(own) or np.linalg.matrix_rank(used.matrix) < used.matrix.shape[1]:
        raise RequestError(
            f"{len(own)} finished runs of the {len(found)} of this screening design do not determine "
            f"{len(design.names)} effects; train the others by the same `roadmap sweep`"
        )
    values = own["top1"].to_numpy(float)
    coefficients, _ = least_squares(used.matrix, values)
    expected = used.matrix @ coefficients
    furthest = int(np.argmax(np.abs(values - expected)))
    samples = _samples(of_runs, finished)
    return MainEffects(
        used,
        pd.concat(
            [_labels(design.names, steps), estimates(used, values), _path(design.names, steps, samples, keys)], axis=1
        ),
        own,
        len(found),
        float(np.sqrt(error_variance(used, values))),
        _explained(used, values),
        lack_of_fit(used, values, ([key for key, _ in place], every["seed"], every["top1"])),
        (furthest, float(expected[furthest])),
    )


def least_squares(matrix: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients (p, …) and residual sums of squares (…) of ``values`` (n, …)."""
    coefficients = np.linalg.lstsq(matrix, values, rcond=None)[0]
    return coefficients, ((values - matrix @ coefficients) ** 2).sum(axis=0)


def estimates(design: ScreeningDesign, values: np.ndarray) -> pd.DataFrame:
    """Return ``effect``, ``se``, ``low``, ``high``, ``p`` and ``p_holm`` of each change from the ``values`` of runs.

    Student's t with the residual variance between combinations, which holds seed noise and lack of fit; 95 % intervals,
    not corrected.
    """
    from scipy.special import stdtr, stdtrit

    coefficients, _ = least_squares(design.matrix, values)
    effect, df = 2 * coefficients[1 : len(design.names) + 1], design.error_df
    variance = error_variance(design, values)
    table = pd.DataFrame({"effect": effect}).assign(se=np.nan, low=np.nan, high=np.nan, p=np.nan, p_holm=np.nan)
    if not variance > 0:
        return table
    se = design.standard_errors() * np.sqrt(variance)
    half = stdtrit(df, (1 + CONFIDENCE) / 2) * se
    p = 2 * stdtr(df, -np.abs(effect) / se)
    return table.assign(se=se, low=effect - half, high=effect + half, p=p, p_holm=holm(p, len(p)))


def error_variance(design: ScreeningDesign, values: np.ndarray) -> float:
    """Return the mean square of the residuals between combinations; NaN without degrees of freedom."""
    _, rss = least_squares(design.matrix, values)
    own, _, _ = pure_error(design.masks, design.seeds, values)
    return float(rss - own) / design.error_df if design.error_df > 0 else float("nan")


def pure_error(keys: Iterable[Any], seeds: Iterable[int], values: Iterable[float]) -> tuple[float, int, int]:
    """Return the sum of squares between runs of equal ``keys``, its degrees of freedom, and the number of such keys.

    Differences between seeds that all designs share do not count.
    """
    codes, counts = np.unique(pd.factorize(pd.Series(list(keys)))[0], return_inverse=True, return_counts=True)[1:]
    repeated = counts[codes] > 1
    groups = np.unique(codes[repeated], return_inverse=True)[1]
    if not len(groups):
        return 0.0, 0, 0
    y, seen = np.array(list(values), float)[repeated], np.array(list(seeds))[repeated]
    means = np.eye(groups.max() + 1)[groups]
    within = np.hstack([y[:, None], blocks(seen)])
    within -= means @ np.linalg.lstsq(means, within, rcond=None)[0]
    _, ss = least_squares(within[:, 1:], within[:, 0])
    return float(ss), len(y) - means.shape[1] - int(np.linalg.matrix_rank(within[:, 1:])), means.shape[1]


def lack_of_fit(
    design: ScreeningDesign, values: np.ndarray, every: tuple[Iterable[Any], Iterable[int], Iterable[float]]
) -> LackOfFit:
    """Return the test for the ``values`` of a design, with the seed noise of ``every`` run: keys, seeds, values."""
    from scipy.stats import f as f_distribution

    pure, pure_df, designs = pure_error(*every)
    df = max(design.error_df, 0)
    sd = float(np.sqrt(pure / pure_df)) if pure_df > 0 else float("nan")
    if not df or pure_df < 1 or pure <= 0:
        return LackOfFit(float("nan"), df, max(pure_df, 0), float("nan"), sd, designs)
    ratio = error_variance(design, values) / (pure / pure_df)
    return LackOfFit(ratio, df, pure_df, float(f_distribution.sf(ratio, df, pure_df)), sd, designs)


def _explained(design: ScreeningDesign, values: np.ndarray) -> float:
    """Return the adjusted R² of the effects, beyond differences between seeds."""
    seeds = np.hstack([np.ones((len(values), 1)), blocks(design.seeds)])
    _, total = least_squares(seeds, values)
    return float(1 - error_variance(design, values) / (total / (len(values) - seeds.shape[1])))


class _Keys:
    """What runs are found by: design and recipe. The recipe's record is composed once for each recipe."""

    def __init__(self) -> None:
        self.recipes: dict[Any, Any] = {}

    def of(self, point: Composed) -> bytes:
        assert not isinstance(point.design, BaselineModel)
        if point.recipe not in self.recipes:
            self.recipes[point.recipe] = point.experiment().definition["recipe"]
        return step_key(point.design.to_dict(), self.recipes[point.recipe])


def _samples(keys: Sequence[bytes], finished: pd.DataFrame) -> dict[bytes, dict[int, float]]:
    """Return key → seed → top-1."""
    samples: dict[bytes, dict[int, float]] = {}
    for key, seed, top1 in zip(keys, finished["seed"], finished["top1"], strict=True):
        samples.setdefault(key, {})[int(seed)] = top1
    return samples


def _labels(names: Sequence[str], steps: Sequence[Step]) -> pd.DataFrame:
    by_name = {step.name: step for step in steps}
    rows = [(name, by_name[name].label, by_name[name].section) for name in names]
    return pd.DataFrame(rows, columns=["change", "label", "section"])


def _path(
    names: Sequence[str], steps: Sequence[Step], samples: Mapping[bytes, dict[int, float]], keys: _Keys
) -> pd.DataFrame:
    """Return the gap of each change's step to its parent on the path, from runs, and the paper's."""
    by_name = {step.name: step for step in steps}
    pairs = [(by_name[name], by_name[str(by_name[name].parent)]) for name in names]
    measured = gaps([(samples.get(keys.of(a.composed), {}), samples.get(keys.of(b.composed), {})) for a, b in pairs])
    variants = [(step.composed.variant, before.composed.variant) for step, before in pairs]
    paper = paper_deltas(variants, steps[0].composed.regime.name)
    columns = {"delta": "path", "delta_se": "path_se", "delta_low": "path_low", "delta_high": "path_high"}
    return measured[list(columns)].rename(columns=columns).assign(paper=paper)
