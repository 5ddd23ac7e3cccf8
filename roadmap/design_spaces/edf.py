"""The error distributions (EDFs) of design spaces, with bootstrap intervals over their designs; arXiv:1905.13214."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadmap.comparison.step_table import data_words
from roadmap.design_spaces.reliability import ENOUGH, Reliability, axis_effects, effect_sentences, reliability
from roadmap.errors import RequestError
from roadmap.formatting import aligned
from roadmap.runs.identity import group_keys
from roadmap.runs.select import evaluated
from roadmap.statistics.correction import holm
from roadmap.statistics.gaps import CONFIDENCE

COSTS = {"gmacs": "GMACs", "params": "parameters (millions)"}
RESAMPLES = 2000
TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class DesignSample:
    """The trained designs of a space, averaged over seeds.

    ``designs`` has one row per design: ``key``, ``design``, mean ``error`` over its ``seeds`` after the last epoch in
    percent, ``gmacs`` and ``params`` (millions). ``missing`` counts designs without a finished run. ``reliability`` is
    None if fewer than two designs have two seeds.
    """

    name: str
    designs: pd.DataFrame
    missing: int
    reliability: Reliability | None = None

    @property
    def errors(self) -> np.ndarray:
        """The error of each design in percent."""
        return self.designs["error"].to_numpy(float)

    @property
    def size(self) -> str:
        """The number of designs and of seeds per design: ``10 designs, 2 seeds each``."""
        return f"{len(self.designs)} designs, {seed_range(self.designs)} seeds each"


def design_sample(name: str, runs: pd.DataFrame) -> DesignSample:
    """Return the designs of ``runs``. Raises RequestError if no run has finished."""
    runs = runs.assign(key=group_keys(runs["definition"]))
    done = runs[(runs["status"] == "finished") & runs["top1"].notna()]
    if not len(done):
        raise RequestError(f"no run of {name} has finished")
    groups = done.groupby("key", sort=False)
    designs = groups.agg(
        design=("design", "first"),
        error=("top1", "mean"),
        seeds=("seed", "nunique"),
        gmacs=("gmacs", "first"),
        params=("params_m", "first"),
    ).reset_index()
    designs["error"] = 100 - designs["error"]
    by_design = [dict(zip(own["seed"], 100 - own["top1"], strict=True)) for _, own in groups]
    return DesignSample(name, designs, runs["key"].nunique() - len(designs), reliability(by_design))


def split(runs: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    """Return the runs by the value of a field (``kernel``, ``design.kernel``) or expression, ordered by value.

    Raises RequestError for an invalid expression.
    """
    values = evaluated(runs, by, "--by")
    if not isinstance(values, pd.Series):
        raise RequestError(f'--by "{by}" is the same for all runs; name a field, as in --by kernel')
    texts = values.map(lambda value: "-".join(map(str, value)) if isinstance(value, list) else value)
    name = by.removeprefix("design.")
    return {f"{name}={value}": own for value, own in runs.groupby(texts, dropna=False)}


def conditions(runs: pd.DataFrame) -> str:
    """Return data, recipe and epochs, which all runs share, as text."""
    first = runs.iloc[0]
    return f"{data_words(runs)}; recipe {first['recipe']}, {first['epochs']} epochs"


def medians(sample: DesignSample, source: np.random.Generator) -> np.ndarray:
    """Return the median errors (RESAMPLES,) of bootstrap resamples of the designs."""
    return np.median(source.choice(sample.errors, (RESAMPLES, len(sample.errors))), axis=1)


def summary(samples: Sequence[DesignSample]) -> pd.DataFrame:
    """Return one row per sample: the ``median`` error in percent with its 95 % bootstrap interval ``low`` to ``high``.

    Also the number of ``designs``, the ``best`` error, and the median ``gmacs`` and ``params``.
    """
    rows = []
    for sample in samples:
        low, high = np.quantile(medians(sample, np.random.default_rng(0)), TAILS)
        rows.append(
            {"space": sample.name, "designs": len(sample.designs), "seeds": seed_range(sample.designs)}
            | {"median": np.median(sample.errors), "low": low, "high": high, "best": sample.errors.min()}
            | {cost: sample.designs[cost].median() for cost in COSTS}
        )
    return pd.DataFrame(rows)


def pairs(samples: Sequence[DesignSample]) -> pd.DataFrame:
    """Return one row per pair of samples.

    ``delta`` is the second median error minus the first, in percentage points, with its uncorrected 95 % bootstrap
    interval ``low`` to ``high``. ``distance`` is the largest distance between the two EDFs, ``p`` the p-value of the
    two-sided Kolmogorov-Smirnov test, and ``p_holm`` the same corrected for all pairs.
    """
    from scipy.stats import ks_2samp

    rows = []
    for one, other in itertools.combinations(samples, 2):
        source = np.random.default_rng(0)
        first, second = medians(one, source), medians(other, source)
        low, high = np.quantile(second - first, TAILS)
        with warnings.catch_warnings():
            # with many values there is no exact p, and SciPy uses the asymptotic one
            warnings.simplefilter("ignore", RuntimeWarning)
            test = ks_2samp(one.errors, other.errors)
        delta = np.median(other.errors) - np.median(one.errors)
        rows.append((one.name, other.name, delta, low, high, test.statistic, test.pvalue))
    table = pd.DataFrame(rows, columns=["one", "other", "delta", "low", "high", "distance", "p"])
    return table.assign(p_holm=holm(table["p"].to_numpy(), len(rows)) if rows else [])


def edf_text(samples: Sequence[DesignSample]) -> str:
    """Return the numbers for a terminal: a row per space, a sentence per pair, and cautions."""
    header = ["space", "designs", "seeds", "median error (%)", "95 %", "best", "median GMACs", "params (M)"]
    rows = [
        [
            *(row["space"], str(row["designs"]), row["seeds"], f"{row['median']:.2f}"),
            *(f"{row['low']:.2f} to {row['high']:.2f}", f"{row['best']:.2f}"),
            *(f"{row['gmacs']:.4g}", f"{row['params']:.3g}"),
        ]
        for row in summary(samples).to_dict("records")
    ]
    return "\n".join([aligned(header, rows), *pair_sentences(samples), *sample_sentences(samples), *cautions(samples)])


def sample_sentences(samples: Sequence[DesignSample]) -> list[str]:
    """Return the reliability of each sample, and the effects of axes over pairs of all designs."""
    known = [f"reliability of {each.name}: {each.reliability}" for each in samples if each.reliability]
    designs = pd.concat([sample.designs for sample in samples]).drop_duplicates("key")
    return [*known, *effect_sentences(axis_effects(designs))]


def pair_sentences(samples: Sequence[DesignSample]) -> list[str]:
    """Return a sentence on each pair of samples."""
    table = pairs(samples)
    return [_pair_sentence(row, len(table)) for row in table.to_dict("records")]


def _pair_sentence(row: Mapping[Any, Any], tests: int) -> str:
    corrected = f", {row['p_holm']:.3g} by Holm's correction for {tests} pairs" if tests > 1 else ""
    return (
        f"median of {row['other']} minus median of {row['one']}: {row['delta']:+.2f} points, 95 % {row['low']:+.2f} to "
        f"{row['high']:+.2f}; EDFs at most {row['distance']:.2f} apart (Kolmogorov-Smirnov p {row['p']:.3g}{corrected})"
    )


def cautions(samples: Sequence[DesignSample]) -> list[str]:
    """Return a sentence on each reason to distrust the EDFs."""
    found = []
    for cost, unit in COSTS.items():
        costs = {sample.name: sample.designs[cost].median() for sample in samples}
        if max(costs.values()) > 1.05 * min(costs.values()):
            each = ", ".join(f"{name} {value:.4g}" for name, value in costs.items())
            found.append(f"these spaces differ in median {unit} ({each}), which may explain the difference in error")
    found += [
        f"errors of {each.name} are mostly seed noise: two seeds of a design correlate at {each.reliability.icc:.2f}"
        for each in samples
        if each.reliability and each.reliability.icc < ENOUGH
    ]
    designs = pd.concat([sample.designs for sample in samples])
    if designs["seeds"].nunique() > 1:
        found.append("designs differ in the number of seeds; fewer seeds give noisier errors and a wider EDF")
    if both := int((designs["key"].value_counts() > 1).sum()):
        found.append(f"{both} of the designs are in more than one space, but p and intervals assume independent spaces")
    found += [f"{each.missing} designs of {each.name} have no finished run" for each in samples if each.missing]
    return [f"caution: {sentence}" for sentence in found]


def seed_range(designs: pd.DataFrame) -> str:
    """Return the number of seeds per design as text: ``2`` or ``1–3``."""
    low, high = designs["seeds"].min(), designs["seeds"].max()
    return str(low) if low == high else f"{low}–{high}"
