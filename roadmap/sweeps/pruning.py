"""When a search stops a run before its last epoch: the median rule among finished runs that cost no more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from roadmap.config.build import network_cost
from roadmap.config.compose import Composed
from roadmap.errors import PrunedError
from roadmap.runs.identity import condition_keys
from roadmap.runs.reading import read_runs
from roadmap.runs.run_folder import METRICS, read_metrics
from roadmap.sweeps.search import Prune, Search

Curve = Mapping[int, float]  # epoch -> top-1 in percent
PRUNED = "pruned after"  # how the error of a pruned run begins


def median_rule(composed: Composed, search: Search) -> Callable[[list[dict[str, Any]]], None] | None:
    """The pruner of a trial's run, which raises PrunedError; None where the search does not prune."""
    if search.prune is None:
        return None
    prune, curves = search.prune, peers(composed, search.cost)
    return lambda rows: check_median(rows, curves, prune)


def check_median(rows: Sequence[Mapping[str, Any]], curves: Sequence[Curve], prune: Prune) -> None:
    """Raise PrunedError where the best top-1 of ``rows`` is below the median of ``curves`` at the same epoch."""
    epoch, best = rows[-1]["epoch"], max(row["top1"] for row in rows)
    if len(curves) < prune.startup_runs or epoch < prune.warmup_epochs:
        return
    others = median(curve[epoch] for curve in curves)
    if best < others:
        raise PrunedError(
            f"{PRUNED} epoch {epoch}: the best top-1 so far, {best:.2f} %, is below {others:.2f} %, "
            f"the median of {len(curves)} finished runs"
        )


def peers(composed: Composed, cost: str | None) -> list[Curve]:
    """Top-1 by epoch of finished runs that differ only in design and seed and have at most the same ``cost``."""
    experiment = composed.experiment()
    runs, _ = read_runs([experiment.settings.runs_dir] if Path(experiment.settings.runs_dir).is_dir() else [])
    (own,) = condition_keys([experiment.definition])
    same = np.array([key == own for key in condition_keys(runs["definition"])], bool)
    runs = runs[(runs["status"] == "finished") & same]
    if cost is not None:
        runs = runs[runs[cost] <= getattr(network_cost(composed), cost)]
    curves = [{row["epoch"]: row["top1"] for row in read_metrics(Path(path) / METRICS)} for path in runs["path"]]
    # a run that was copied without its metrics has no curve
    return [curve for curve in curves if len(curve) == experiment.epochs]
