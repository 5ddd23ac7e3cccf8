"""A search for designs as its study's file asks for it, and what of a design it needs to know before training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from roadmap.checked import Checked, listed
from roadmap.designs.counting import Count
from roadmap.errors import RequestError

# Numbers of a finished run's summary that a job can hand a sweeper, and which way is better.
OBJECTIVES = {
    "top1": "maximize",
    "top5": "maximize",
    "gmacs": "minimize",
    "params_m": "minimize",
    "activations_m": "minimize",
}
PRUNED = "pruned after"  # how the error of a run begins that a search has stopped before its last epoch
COSTS = ("gmacs", "params_m")


@dataclass(frozen=True)
class Prune(Checked):
    """When a run may be stopped before its last epoch."""

    place = "study.prune"

    warmup_epochs: int  # that each run gets
    startup_runs: int  # finished ones to compare with, at least

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("warmup_epochs", "startup_runs"):
            if getattr(self, key) < 1:
                raise RequestError(f"study.prune.{key}={getattr(self, key)} is out of range; it wants at least 1")


@dataclass(frozen=True)
class Search(Checked):
    """The node ``study`` of a search but its space; ``gmacs`` and ``params_m`` are [least, most] of a design."""

    place = "study"

    name: Literal["search"]
    objectives: tuple[str, ...]
    n_trials: int
    jobs: int
    sampler: Literal["nsgaii", "tpe"]
    population: int
    seed: int
    gmacs: tuple[float, float] | None
    params_m: tuple[float, float] | None
    prune: Prune | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("n_trials", 1), ("jobs", 1), ("population", 2)):
            if getattr(self, key) < least:
                raise RequestError(f"study.{key}={getattr(self, key)} is out of range; it wants at least {least}")
        if self.objectives not in (("top1",), *(("top1", cost) for cost in COSTS)):
            raise RequestError(
                f"study.objectives={list(self.objectives)} does not fit; choose [top1], [top1,gmacs] or [top1,params_m]"
            )
        for cost in COSTS:
            band = getattr(self, cost)
            if band is not None and not 0 <= band[0] <= band[1]:
                raise RequestError(f"study.{cost}={list(band)} does not fit: it wants [least,most]")

    @property
    def cost(self) -> str | None:
        """The objective beside accuracy, if there is one."""
        return self.objectives[1] if len(self.objectives) > 1 else None

    @property
    def directions(self) -> list[str]:
        """Optuna's word for what is better, for each objective."""
        return [OBJECTIVES[name] for name in self.objectives]

    def refusal(self, counted: Count) -> str | None:
        """Why a design of such a cost is not to be trained; None where it is within the bands."""
        for cost, word in zip(COSTS, ("GMACs", "M parameters"), strict=True):
            band, value = getattr(self, cost), getattr(counted, cost)
            if band is not None and not band[0] <= value <= band[1]:
                return f"{value:.4g} {word} are outside study.{cost}=[{band[0]:g},{band[1]:g}]"
        return None


def search_of(values: Mapping[str, Any]) -> Search | None:
    """The search that a composed config is part of, if any."""
    study = values.get("study")
    if not isinstance(study, Mapping) or study.get("name") != "search":
        return None
    return Search.from_mapping({key: value for key, value in study.items() if key != "space"})


def check_holdout(values: Mapping[str, Any]) -> None:
    """RequestError where a composed config would choose designs by the images that results are reported on."""
    if not values["data"]["holdout"]:
        raise RequestError(
            "data.holdout=0 would make the search choose by the test images; "
            "choose a share of the training images, as data.holdout=0.2"
        )


def objective(summary: Mapping[str, Any], names: list[str]) -> float | tuple[float, ...]:
    """What a job hands its sweeper: a number, or one for each of several ``names``."""
    values = tuple(float(summary[name]) for name in names)
    return values if len(values) > 1 else values[0]


def checked_objectives(names: Any) -> list[str]:
    """``objectives`` of the config; RequestError where it is no list of names from OBJECTIVES."""
    if not isinstance(names, list) or not names:
        raise RequestError(f"objectives={names} does not fit: it wants a list such as [top1] or [top1,gmacs]")
    for name in names:
        if name not in OBJECTIVES:
            raise RequestError(f"unknown objective '{name}'; choose {listed(OBJECTIVES)}")
    return names
