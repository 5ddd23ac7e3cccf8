"""Estimating how long planned runs take, from finished runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from roadmap.formatting import duration

Array = npt.NDArray[np.float64]
DESIGN = ["regime", "variant", "gmacs", "params_m"]  # a plan's description of a design
MIN_DESIGNS = 3  # to fit a line through their costs
MIN_RUNS = 5  # to give a range


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated seconds of each planned run, in the plan's order; NaN if unknown.

    ``low`` to ``high`` covers eight of ten finished runs relative to the fit by cost, NaN with fewer than five runs.
    ``images`` are the training images that each run processes. ``basis`` describes what the estimate is based on.
    """

    seconds: Array
    low: Array
    high: Array
    images: Array
    basis: str


def estimate(
    planned: Sequence[Mapping[str, Any]], runs: pd.DataFrame, like: Mapping[str, Any] | None = None
) -> TimeEstimate:
    """Return the estimated seconds of planned runs on one worker, from the finished runs in ``runs``.

    Only runs that match ``like`` (such as ``{"data": "digits", "precision": "fp32"}``), and the device and number of
    processes of the last one, are used. A planned run takes, per epoch and image,

    - the mean of finished runs of the same design and recipe, if there are any;
    - else a constant plus a cost per GMAC, fitted to the finished designs of its regime (all regimes if it has fewer
      than three designs), and in proportion to GMACs outside their range.

    Time of an epoch outside training and evaluation is taken from the start and end times. Starting Python and reading
    the data are not included.
    """
    measured = _measured(runs, like or {})
    epochs = np.array([run["epochs"] for run in planned], float)
    images = np.array([np.nan if run["images"] is None else run["images"] for run in planned], float)
    if not len(measured) or not len(planned):
        unknown = np.full(len(planned), np.nan)
        return TimeEstimate(unknown, unknown, unknown, images, "no finished run on the same data")
    images = np.where(np.isnan(images), epochs * measured["train_images"].median(), images)
    plan = pd.DataFrame({name: [run[name] for run in planned] for name in DESIGN})
    same = plan.merge(_designs(measured), on=DESIGN, how="left")["per_image"].to_numpy(float)
    per_image = np.where(np.isnan(same), _fitted(plan, measured), same)
    overhead = epochs * _overhead(measured)
    seconds, low, high = (images * per_image * factor + overhead for factor in (1.0, *_spread(measured)))
    return TimeEstimate(seconds, low, high, images, _basis(measured, int((~np.isnan(same)).sum()), len(planned)))


def _measured(runs: pd.DataFrame, like: Mapping[str, Any]) -> pd.DataFrame:
    """Return the finished runs to use, with their seconds ``per_image`` and epoch."""
    runs = runs[runs["status"] == "finished"].dropna(subset=["train_seconds", "train_images", "epochs", *DESIGN])
    for name, value in like.items():
        runs = runs[runs[name] == value]
    if not len(runs):
        return runs
    runs = runs.assign(processes=runs["processes"].fillna(1) if "processes" in runs else 1)
    last = runs.sort_values("ended", na_position="first").iloc[-1]
    for name in ("device", "processes"):
        runs = runs[runs[name].eq(last[name])]
    return runs.assign(per_image=runs["train_seconds"] / (runs["epochs"] * runs["train_images"]))


def _designs(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of ``per_image`` over the runs of each design."""
    return measured.groupby(DESIGN)["per_image"].mean().reset_index()


def _fitted(plan: pd.DataFrame, measured: pd.DataFrame) -> Array:
    """Return seconds per image and epoch, estimated from GMACs alone."""
    designs, fitted = _designs(measured), np.empty(len(plan))
    for regime in plan["regime"].unique():
        own = designs[designs["regime"] == regime]
        own = own if own["gmacs"].nunique() >= MIN_DESIGNS else designs
        here = (plan["regime"] == regime).to_numpy()
        fitted[here] = _line(own["gmacs"].to_numpy(float), own["per_image"].to_numpy(float), plan["gmacs"][here])
    return fitted


def _line(gmacs: Array, seconds: Array, planned: "pd.Series[float]") -> Array:
    """Return a line fitted to (GMACs, seconds) at the planned GMACs; proportional outside the measured range."""
    from scipy.optimize import nnls

    constant, slope = 0.0, 1.0
    if len(np.unique(gmacs)) >= MIN_DESIGNS:
        # relative errors, so that a run that was slowed down has less influence
        (constant, slope), _ = nnls(np.column_stack([np.ones_like(gmacs), gmacs]) / seconds[:, None], seconds / seconds)
    level = seconds.sum() / (constant + slope * gmacs).sum()
    x = planned.to_numpy(float)
    inside = x.clip(gmacs.min(), gmacs.max())
    return level * (constant + slope * inside) * x / inside


def _spread(measured: pd.DataFrame) -> tuple[float, float]:
    """Return the factors on the fit by cost between which eight of ten runs lie."""
    if len(measured) < MIN_RUNS:
        return np.nan, np.nan
    low, high = np.quantile(measured["per_image"].to_numpy(float) / _fitted(measured, measured), [0.1, 0.9])
    return float(low), float(high)


def _overhead(measured: pd.DataFrame) -> float:
    """Return the seconds per epoch outside training and evaluation; trimmed, since resumed runs include their pause."""
    from scipy.stats import trim_mean

    started, ended = (pd.to_datetime(measured[name], format="ISO8601", utc=True) for name in ("started", "ended"))
    overhead = ((ended - started).dt.total_seconds() - measured["train_seconds"]) / measured["epochs"]
    return max(0.0, float(trim_mean(overhead.dropna(), 0.25))) if overhead.notna().any() else 0.0


def _basis(measured: pd.DataFrame, known: int, planned: int) -> str:
    last = measured.iloc[-1]
    device = last["device"] if last["processes"] == 1 else f"{last['processes']:g} × {last['device']}"
    what = f"{len(measured)} run{'s' * (len(measured) > 1)} on {last['data']} ({device})"
    if known == planned:
        return f"from {what}, of the same designs"
    by_cost = "by GMACs" if known == 0 else f"{known} by runs of the same design, {planned - known} by GMACs"
    return f"from {what}, {by_cost}"


def describe(
    planned: Sequence[Mapping[str, Any]], done: Collection[str], estimated: TimeEstimate, workers: int
) -> list[str]:
    """Return lines on the cost of a plan: runs, GMACs × images, time on one worker and on ``workers``."""
    missing = np.array([run["run_id"] not in done for run in planned], bool)
    count = int(missing.sum())
    lines = [f"{len(planned)} runs: {len(planned) - count} done, {count} missing"]
    if not count:
        return lines
    work = float((np.array([run["gmacs"] for run in planned], float) * estimated.images)[missing].sum())
    if not np.isnan(work):
        lines.append(f"missing: {work:.3g} GMACs × images in forward passes (three times that with backward passes)")
    seconds = estimated.seconds[missing]
    if np.isnan(seconds).any():
        return [*lines, f"time unknown: {estimated.basis}"]
    low, high = estimated.low[missing].sum(), estimated.high[missing].sum()
    text = f"about {duration(seconds.sum())} on one worker{time_range(low, high)}"
    if workers > 1:
        text += f", {duration(parallel_seconds(seconds, workers))} on {workers} workers"
    return [*lines, f"{text}, {estimated.basis}"]


def parallel_seconds(seconds: Array, workers: int) -> float:
    """Return the time of runs on several workers, at least that of the longest run."""
    return float(max(seconds.sum() / workers, seconds.max(initial=0.0)))


def time_range(low: float, high: float) -> str:
    """Return a range as text: `` (10 min to 15 min)``, or nothing if it is unknown."""
    return "" if np.isnan(low) else f" ({duration(low)} to {duration(high)})"
