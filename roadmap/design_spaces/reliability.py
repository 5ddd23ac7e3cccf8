"""How much of the difference between sampled designs is not seed noise, and what one axis does, the others equal."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from roadmap.statistics.gaps import CONFIDENCE, means

ENOUGH = 0.5
MIN_PAIRS = 3


@dataclass(frozen=True)
class Reliability:
    """The intraclass correlation ``icc`` of two seeds of a design, with its 95 % interval ``low`` to ``high``."""

    icc: float
    low: float
    high: float
    designs: int

    def __str__(self) -> str:
        return f"{self.icc:.2f} (95 % {self.low:.2f} to {self.high:.2f}, {self.designs} designs)"


def reliability(designs: Sequence[Mapping[int, float]]) -> Reliability | None:
    """Return the reliability of errors, seed → error of each design; None without two designs that share two seeds.

    ICC(3, 1) of Shrout and Fleiss (1979, doi:10.1037/0033-2909.86.2.420) with its interval, over the seeds that most
    designs have: what a seed adds to all designs cancels in their comparison, and does not count. It may be negative in
    a sample.
    """
    from scipy import stats

    sets: Counter[frozenset[int]] = Counter(frozenset(design) for design in designs if len(design) > 1)
    if not sets:
        return None
    seeds = sorted(sets.most_common(1)[0][0])
    errors = np.array([[design[seed] for seed in seeds] for design in designs if set(seeds) <= design.keys()])
    number, repeats = errors.shape
    residuals = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
    dfs = (number - 1, (number - 1) * (repeats - 1))
    if number < 2 or np.abs(residuals).max() < 1e-9:
        return None
    ratio = errors.mean(axis=1).var(ddof=1) * repeats / ((residuals**2).sum() / dfs[1])
    tail = (1 + CONFIDENCE) / 2
    ratios = np.array([ratio, ratio / stats.f.ppf(tail, *dfs), ratio * stats.f.ppf(tail, *dfs[::-1])])
    icc, low, high = (float(value) for value in (ratios - 1) / (ratios + repeats - 1))
    return Reliability(icc, low, high, number)


def axis_effects(designs: pd.DataFrame) -> pd.DataFrame:
    """Return the effect of each axis on the error, from pairs of designs that differ in this axis alone.

    ``designs`` has ``design`` and mean ``error`` in percent. One row per axis and two of its values, with three or more
    pairs: ``axis``, ``value``, ``other``, ``pairs``, and ``delta``, the mean error of ``other`` minus that of
    ``value``, with Student's 95 % interval over the pairs, ``low`` to ``high``. Each design is in one pair of a row.
    """
    found = []
    texts = [{axis: json.dumps(value) for axis, value in design.items()} for design in designs["design"]]
    for axis in dict.fromkeys(axis for design in texts for axis in design):
        contexts: dict[Any, dict[str, float]] = {}
        for design, error in zip(texts, designs["error"], strict=True):
            rest = tuple(sorted((name, value) for name, value in design.items() if name != axis))
            contexts.setdefault(rest, {})[design.get(axis, "")] = float(error)
        values = sorted({value for errors in contexts.values() for value in errors}, key=_by_size)
        for value, other in combinations(values, 2):
            deltas = [errors[other] - errors[value] for errors in contexts.values() if {value, other} <= errors.keys()]
            if len(deltas) >= MIN_PAIRS:
                row = means([dict(enumerate(deltas))]).iloc[0]
                shown = {"axis": axis, "value": value.strip('"'), "other": other.strip('"'), "pairs": len(deltas)}
                found.append(shown | {"delta": row["mean"], "low": row["low"], "high": row["high"]})
    return pd.DataFrame(found, columns=["axis", "value", "other", "pairs", "delta", "low", "high"])


def effect_sentences(effects: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on each row of ``axis_effects``."""
    for row in effects.to_dict("records"):
        yield (
            f"{row['axis']} {row['value']} → {row['other']}, all else equal: error {row['delta']:+.2f} points, "
            f"95 % {row['low']:+.2f} to {row['high']:+.2f} over {row['pairs']} pairs of designs (uncorrected)"
        )


def _by_size(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value
