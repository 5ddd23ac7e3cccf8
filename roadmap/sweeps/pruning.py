"""When a search stops a run before its last epoch: Optuna's median rule, among the finished runs that cost no more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna

from roadmap.config.compose import Composed
from roadmap.errors import PrunedError
from roadmap.networks.flops import composed_flops
from roadmap.runs.reading import read_runs
from roadmap.runs.run_folder import METRICS, read_metrics
from roadmap.sweeps.search import PRUNED, Prune, Search

Curve = Mapping[int, float]  # epoch -> top-1 in percent


def median_rule(composed: Composed, search: Search) -> Callable[[list[dict[str, Any]]], None] | None:
    """The judge of a run of the search: it raises PrunedError; None where nothing is pruned or compared with."""
    if search.prune is None:
        return None
    curves = peers(composed, search.cost)
    return MedianRule(curves, search.prune, search.cost) if curves else None


class MedianRule:
    """Raises PrunedError for a run whose best top-1 so far is below the median of its peers' at the same epoch."""

    def __init__(self, curves: Sequence[Curve], prune: Prune, cost: str | None):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.curves = curves
        self.peers = f"the median of {len(curves)} finished runs" + (" that cost no more" if cost else "")
        pruner = optuna.pruners.MedianPruner(prune.startup_runs, prune.warmup_epochs)
        # Optuna prunes for one objective only, so a study of accuracies is made of the peers, which knows no cost
        study = optuna.create_study(direction="maximize", pruner=pruner)
        for curve in curves:
            trial = study.ask()
            for epoch, top1 in curve.items():
                trial.report(top1, epoch)
            study.tell(trial, curve[max(curve)])
        self.trial, self.reported = study.ask(), 0

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """After each epoch, with the rows of all of them so far."""
        for row in rows[self.reported :]:
            self.trial.report(row["top1"], row["epoch"])
        self.reported = len(rows)
        if self.trial.should_prune():
            epoch = rows[-1]["epoch"]
            best, others = max(row["top1"] for row in rows), median(curve[epoch] for curve in self.curves)
            raise PrunedError(
                f"{PRUNED} epoch {epoch}: the best top-1 so far, {best:.2f} %, is below {others:.2f} %, {self.peers}"
            )


def peers(composed: Composed, cost: str | None) -> list[Curve]:
    """The accuracies by epoch of finished runs that differ in design and seed only and, of a ``cost``, have no more."""
    experiment = composed.experiment()
    runs, _ = read_runs([experiment.settings.runs_dir] if Path(experiment.settings.runs_dir).is_dir() else [])
    wanted = _conditions(experiment.definition)
    alike = [_conditions(definition) == wanted for definition in runs["definition"]]
    runs = runs[(runs["status"] == "finished").to_numpy() & np.array(alike, dtype=bool)]
    if cost is not None:
        runs = runs[runs[cost] <= getattr(composed_flops(composed), cost)]
    curves = [{row["epoch"]: row["top1"] for row in read_metrics(Path(path) / METRICS)} for path in runs["path"]]
    # a copy of a run without its metrics says nothing about epochs
    return [curve for curve in curves if len(curve) == experiment.epochs]


def _conditions(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in ("design", "seed")}
