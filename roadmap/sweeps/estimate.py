"""How long planned runs will take, from how long finished ones took."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from roadmap.formatting import duration

Array = npt.NDArray[np.float64]
DESIGN = ["regime", "variant", "gmacs", "params_m"]  # what a plan says of a design
ENOUGH_DESIGNS = 3  # for a line through their costs
ENOUGH_RUNS = 5  # for a range
TENTH, NINE_TENTHS = 0.1, 0.9
NOTHING = "no finished run on the same data says how long a run takes"


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of each planned run, in the plan's order; NaN where nothing was measured to estimate it from.

    ``low`` to ``high`` is where eight of ten of the finished runs lay against their own estimates, NaN where they were
    too few. ``images`` are the training images that each run sees. ``basis`` says what it all rests on.
    """

    seconds: Array
    low: Array
    high: Array
    images: Array
    basis: str


def estimate(
    planned: Sequence[Mapping[str, Any]], runs: pd.DataFrame, like: Mapping[str, Any] | None = None
) -> TimeEstimate:
    """Seconds of planned runs (lines of a plan) on one worker, from the finished ones among ``runs``.

    ``like`` holds what a run's record must say to count, as ``{"data": "digits", "precision": "fp32"}``; of those runs
    the kind of device and the number of processes of the one that ended last. A planned run takes

    - what finished runs of the same design and recipe took per epoch and image, on average, if there are any;
    - else a constant and a price per GMAC for each image, fitted to the finished designs of its regime (to all where
      those are fewer than three), brought to their total, and in proportion to GMACs outside the range of theirs.

    The times are of training and evaluation together; what an epoch takes beside (checkpoints) is added from the times
    of day in the records. Starting Python and reading the data is not in any record and not counted.

    On the 102 example runs, each design left out in turn with all its seeds: on a quiet machine (nano) a run's median
    error is 7 %, the mean 10 %, where proportionality alone has 12 and 15 %; on one that others used at the same time
    (nano_base), where the seeds of a design differ by 40 %, it is 32 and 38 % either way. The total is within 1 % in
    both, and of the runs left out 7 in 10 lie in their ranges.
    """
    measured = _measured(runs, like or {})
    epochs = np.array([run["epochs"] for run in planned], float)
    images = np.array([np.nan if run["images"] is None else run["images"] for run in planned], float)
    if not len(measured) or not len(planned):
        unknown = np.full(len(planned), np.nan)
        return TimeEstimate(unknown, unknown, unknown, images, NOTHING)
    images = np.where(np.isnan(images), epochs * measured["train_images"].median(), images)
    plan = pd.DataFrame({name: [run[name] for run in planned] for name in DESIGN})
    same = plan.merge(_designs(measured), on=DESIGN, how="left")["per_image"].to_numpy(float)
    known = ~np.isnan(same)
    per_image = np.where(known, same, _fitted(plan, measured))
    spread = np.where(known[:, None], _spread_of_seeds(measured), _spread_of_fit(measured))
    beside = epochs * _beside(measured)
    seconds, low, high = (images * per_image * factor + beside for factor in (1.0, *spread.T))
    return TimeEstimate(seconds, low, high, images, _basis(measured, int(known.sum()), len(planned)))


def _measured(runs: pd.DataFrame, like: Mapping[str, Any]) -> pd.DataFrame:
    """The finished runs that count, with their seconds ``per_image`` of an epoch."""
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
    """One row a design: the mean of ``per_image`` over its runs."""
    return measured.groupby(DESIGN)["per_image"].mean().reset_index()


def _fitted(plan: pd.DataFrame, measured: pd.DataFrame) -> Array:
    """Seconds per image and epoch by GMACs alone."""
    designs, fitted = _designs(measured), np.empty(len(plan))
    for regime in plan["regime"].unique():
        own = designs[designs["regime"] == regime]
        own = own if own["gmacs"].nunique() >= ENOUGH_DESIGNS else designs
        here = (plan["regime"] == regime).to_numpy()
        fitted[here] = _line(own["gmacs"].to_numpy(float), own["per_image"].to_numpy(float), plan["gmacs"][here])
    return fitted


def _line(gmacs: Array, seconds: Array, asked: "pd.Series[float]") -> Array:
    """A line through measured (GMACs, seconds) at the GMACs asked for, in proportion to them outside the measured."""
    from scipy.optimize import nnls

    constant, price = 0.0, 1.0
    if len(np.unique(gmacs)) >= ENOUGH_DESIGNS:
        # relative errors: a run that others slowed down pulls by no more than its own length
        (constant, price), _ = nnls(np.column_stack([np.ones_like(gmacs), gmacs]) / seconds[:, None], seconds / seconds)
    level = seconds.sum() / (constant + price * gmacs).sum()
    wanted = asked.to_numpy(float)
    inside = wanted.clip(gmacs.min(), gmacs.max())
    return level * (constant + price * inside) * wanted / inside


def _spread_of_fit(measured: pd.DataFrame) -> tuple[float, float]:
    return _spread(measured["per_image"].to_numpy(float) / _fitted(measured, measured))


def _spread_of_seeds(measured: pd.DataFrame) -> tuple[float, float]:
    """Of runs against the others of their design; against the fit where designs have one run each."""
    groups = measured.groupby(DESIGN)["per_image"]
    count, total = groups.transform("count"), groups.transform("sum")
    repeated = count > 1
    if repeated.sum() < ENOUGH_RUNS:
        return _spread_of_fit(measured)
    others = (total - measured["per_image"])[repeated] / (count[repeated] - 1)
    return _spread((measured["per_image"][repeated] / others).to_numpy(float))


def _spread(ratios: Array) -> tuple[float, float]:
    """Between which factors eight of ten lie."""
    if len(ratios) < ENOUGH_RUNS:
        return np.nan, np.nan
    low, high = np.quantile(ratios, [TENTH, NINE_TENTHS])
    return float(low), float(high)


def _beside(measured: pd.DataFrame) -> float:
    """Seconds an epoch besides training and evaluation: the mean of the middle half of the runs.

    A mean since times of day are whole seconds; of the middle half since a run that was interrupted and went on has its
    pause in them.
    """
    from scipy.stats import trim_mean

    started, ended = (pd.to_datetime(measured[name], format="ISO8601", utc=True) for name in ("started", "ended"))
    beside = ((ended - started).dt.total_seconds() - measured["train_seconds"]) / measured["epochs"]
    return max(0.0, float(trim_mean(beside.dropna(), 0.25))) if beside.notna().any() else 0.0


def _basis(measured: pd.DataFrame, known: int, planned: int) -> str:
    last = measured.iloc[-1]
    device = last["device"] if last["processes"] == 1 else f"{last['processes']:g} × {last['device']}"
    what = f"{len(measured)} run{'s' * (len(measured) > 1)} on {last['data']} ({device})"
    if known == planned:
        return f"from {what}, of the same designs"
    by_cost = "by GMACs" if known == 0 else f"{known} by runs of the same design, {planned - known} by GMACs"
    return f"from {what}, {by_cost}"


def words(planned: Sequence[Mapping[str, Any]], done: Collection[str], told: TimeEstimate, workers: int) -> list[str]:
    """What a plan is going to cost, in lines: runs, GMACs × images, hours on one worker and on ``workers``."""
    missing = np.array([run["run_id"] not in done for run in planned], bool)
    count = int(missing.sum())
    lines = [f"{len(planned)} runs: {len(planned) - count} done, {count} missing"]
    if not count:
        return lines
    work = float((np.array([run["gmacs"] for run in planned], float) * told.images)[missing].sum())
    if not np.isnan(work):
        lines.append(f"missing: {work:.3g} GMACs × images, forward passes in training; with the backward passes thrice")
    return [*lines, time_words(told, missing, workers)]


def time_words(told: TimeEstimate, chosen: npt.NDArray[np.bool_], workers: int) -> str:
    """How long the chosen of the planned runs take, in words."""
    seconds = told.seconds[chosen]
    if np.isnan(seconds).any():
        return f"time unknown: {told.basis}; one finished run is enough to estimate the others"
    text = f"about {duration(seconds.sum())} on one worker{_range(told.low[chosen].sum(), told.high[chosen].sum())}"
    if workers > 1:
        text += f", {duration(shared(seconds, workers))} on {workers} that do not slow each other down"
    return f"{text}, {told.basis}"


def shared(seconds: Array, workers: int) -> float:
    """How long ``workers`` take together: none of them less than the longest run."""
    return float(max(seconds.sum() / workers, seconds.max(initial=0.0)))


def _range(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({duration(low)} to {duration(high)})"
