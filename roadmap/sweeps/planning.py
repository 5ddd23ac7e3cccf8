"""What a sweep consists of: every run of its study × seeds, decided and checked before the first of them starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from roadmap.config.build import network_cost
from roadmap.config.compose import Composed, compose
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.gc_paused import gc_paused
from roadmap.runs.run_folder import now
from roadmap.runs.sweep_plan import Sweep, folder_of, sweep_name
from roadmap.sweeps.studies import Member, Study, study_of
from roadmap.validation import SCHEMA

# What is about the sweep and no part of a run.
OF_SWEEPS = ("study", "engine", "workers", "worker", "retries", "seeds")


@dataclass(frozen=True)
class PlannedSweep:
    """``asked`` is the sweep's config, ``requests[i]`` that of its i-th run, and ``members[i]`` its design's place."""

    asked: Composed
    study: Study
    requests: list[Composed]
    members: list[Member]


def planned(overrides: Sequence[str], config_dirs: Sequence[str]) -> PlannedSweep:
    """The runs of a sweep, all designs of a seed before the next seed. Raises RequestError if one is not valid."""
    if any(key_of(word) == "seed" for word in overrides):
        raise RequestError("seed= belongs to `roadmap train`; a sweep takes seeds=[…]")
    with gc_paused():
        asked = compose([word for word in overrides if not key_of(word).startswith("hydra")], config_dirs)
        study = study_of(asked.study, [word for word in overrides if of_runs(word)], config_dirs)
        runs: dict[str, tuple[Composed, Member]] = {}
        for seed in asked.seeds:
            for member in study.members:
                request = member.composed.with_seed(seed)
                runs.setdefault(request.experiment().run_id, (request, member))
    return PlannedSweep(
        asked, study, [request for request, _ in runs.values()], [member for _, member in runs.values()]
    )


def of_runs(word: str) -> bool:
    """Whether an override is about the runs of a sweep, rather than about the sweep."""
    key = key_of(word).replace("/", ".").split(".")[0]
    return key != "hydra" and key not in OF_SWEEPS


def described(plan: PlannedSweep, overrides: Sequence[str], images: int) -> Sweep:
    """A plan as it is written, not yet on disk; ``images`` is how many an epoch has."""
    asked, study = plan.asked, plan.asked.study or {}
    rows = [_row(request, member, images) for request, member in zip(plan.requests, plan.members, strict=True)]
    header = {
        "schema": SCHEMA,
        "name": sweep_name(study["name"], asked.regime.name, asked.data_name, [row["run_id"] for row in rows]),
        "study": study,
        "regime": asked.regime.name,
        "data": asked.data_name,
        "path": asked.path_name,
        "overrides": list(overrides),
        "seeds": asked.seeds,
        "retries": asked.settings.retries,
        "planned": now(),
        "runs": len(rows),
        "changes": None if plan.study.changes is None else list(plan.study.changes),
        "orders": plan.study.orders,
    }
    return Sweep(folder_of(asked.settings.runs_dir, str(header["name"])), header, rows)


def _row(request: Composed, member: Member, images: int) -> dict[str, Any]:
    experiment, count = request.experiment(), network_cost(request)
    return {
        "run_id": experiment.run_id,
        "regime": experiment.regime,
        "variant": experiment.variant,
        "seed": experiment.seed,
        "step": experiment.step,
        "overrides": list(request.overrides),
        "epochs": experiment.epochs,
        "gmacs": count.gmacs,
        "params_m": count.params_m,
        "images": images * experiment.epochs,
        "changes": None if member.changes is None else list(member.changes),
    }
