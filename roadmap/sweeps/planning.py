"""The plan of a sweep: every run of its study × seeds, composed and checked before the first of them starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadmap.config.build import network_cost
from roadmap.config.compose import Composed, compose
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.runs.run_folder import now
from roadmap.runs.sweep_plan import Sweep, folder_of, sweep_name
from roadmap.sweeps.studies import Study, StudyDesign, study_of
from roadmap.validation import SCHEMA

# keys that define no run
SWEEP_ONLY = (
    "hydra",
    "study",
    "engine",
    "workers",
    "worker",
    "packed",
    "retries",
    "seeds",
    "steps",
    "until",
    "budget",
    "equivalence",
)


@dataclass(frozen=True)
class PlannedSweep:
    """``config`` is the sweep's own; ``runs`` holds a design for each run, composed with its seed."""

    config: Composed
    study: Study
    runs: list[StudyDesign]

    @property
    def requests(self) -> list[Composed]:
        """The config of each run."""
        return [run.composed for run in self.runs]

    def record(self, overrides: Sequence[str], train_images: int) -> Sweep:
        """Return the plan as ``write_sweep`` writes it."""
        rows = [_row(run.composed, train_images) | {"changes": run.changes} for run in self.runs]
        return _plan(
            self.config,
            self.config.study or {},
            rows,
            overrides=list(overrides),
            retries=self.config.settings.retries,
            changes=self.study.changes,
            orders=self.study.orders,
        )


def _plan(config: Composed, study: Mapping[str, Any], rows: list[dict[str, Any]], **added: Any) -> Sweep:
    """Return a plan whose header has the fields of all studies and those ``added``."""
    name = sweep_name(study["name"], config.regime.name, config.data_name, [row["run_id"] for row in rows])
    header = {
        "schema": SCHEMA,
        "name": name,
        "study": study,
        "regime": config.regime.name,
        "data": config.data_name,
        "path": config.path_name,
        "seeds": config.seeds,
        "planned": now(),
        "runs": len(rows),
        **added,
    }
    return Sweep(folder_of(config.settings.runs_dir, name), header, rows)


def _row(composed: Composed, train_images: int) -> dict[str, Any]:
    experiment, cost = composed.experiment(), network_cost(composed)
    fields = ("run_id", "regime", "variant", "seed", "step", "epochs")
    return {name: getattr(experiment, name) for name in fields} | {
        "overrides": composed.overrides,
        "gmacs": cost.gmacs,
        "params_m": cost.params_m,
        "images": train_images * experiment.epochs,
    }


def path_plan(requests: Sequence[Composed], study: Mapping[str, Any] | None = None) -> Sweep:
    """Return the runs of a path as a plan, which declares the gaps between its steps."""
    first = requests[0]
    images = count_train_images(first)
    rows = [_row(request, images) | {"changes": None} for request in requests]
    return _plan(first, study or {"name": "path"}, rows, changes=None, orders=None)


def count_train_images(composed: Composed) -> int:
    """Return the number of training images. Raises RequestError if the data is missing."""
    import torch

    from roadmap.data import open_loaders

    return open_loaders(composed.experiment(), torch.device("cpu")).train_images


def plan_sweep(overrides: Sequence[str], config_dirs: Sequence[str]) -> PlannedSweep:
    """Compose the runs of a sweep, all designs of a seed before the next seed. Raises RequestError for invalid runs."""
    if any(key_of(word) == "seed" for word in overrides):
        raise RequestError("seed= belongs to `roadmap train`; a sweep takes seeds=[…]")
    config = compose([word for word in overrides if not key_of(word).startswith("hydra")], config_dirs)
    study = study_of(config.study, [word for word in overrides if of_runs(word)], config_dirs, config.seeds)
    runs: dict[str, StudyDesign] = {}
    for seed in config.seeds:
        for design in study.designs:
            if design.seed not in (None, seed):
                continue
            run = StudyDesign(design.composed.with_seed(seed), design.changes)
            runs.setdefault(run.composed.experiment().run_id, run)
    return PlannedSweep(config, study, [*runs.values()])


def of_runs(word: str) -> bool:
    """Whether an override is about the runs of a sweep, rather than about the sweep."""
    return key_of(word).replace("/", ".").split(".")[0] not in SWEEP_ONLY
