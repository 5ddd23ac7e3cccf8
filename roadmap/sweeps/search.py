"""A search for designs as its study's file asks for it, and what of a design it needs to know before training."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.flops import Cost
from roadmap.validation import PositiveInt, Record

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


class Prune(Record):
    """When a run may be stopped before its last epoch."""

    place: ClassVar[str] = "study.prune"

    warmup_epochs: PositiveInt  # that each run gets
    startup_runs: PositiveInt  # finished ones to compare with, at least


class Search(Record):
    """The node ``study`` of a search but its space; ``gmacs`` and ``params_m`` are [least, most] of a design."""

    place: ClassVar[str] = "study"

    name: Literal["search"]
    objectives: tuple[str, ...]
    n_trials: PositiveInt
    jobs: PositiveInt
    sampler: Literal["nsgaii", "tpe"]
    population: Annotated[int, Meta(ge=2)]
    seed: int
    gmacs: tuple[float, float] | None
    params_m: tuple[float, float] | None
    prune: Prune | None

    def __post_init__(self) -> None:
        if self.objectives not in (("top1",), *(("top1", cost) for cost in COSTS)):
            raise RequestError(
                f"unknown study.objectives {list(self.objectives)} (choose [top1], [top1, gmacs] or [top1, params_m])"
            )
        for cost in COSTS:
            band = getattr(self, cost)
            if band is not None and not 0 <= band[0] <= band[1]:
                raise RequestError(f"study.{cost} must be [least, most] (got {list(band)})")

    @property
    def cost(self) -> str | None:
        """The objective beside accuracy, if there is one."""
        return self.objectives[1] if len(self.objectives) > 1 else None

    @property
    def directions(self) -> list[str]:
        """Optuna's word for what is better, for each objective."""
        return [OBJECTIVES[name] for name in self.objectives]

    def refusal(self, counted: Cost) -> str | None:
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
        raise RequestError(f"objectives must be a list such as [top1] or [top1,gmacs] (got {names})")
    for name in names:
        if name not in OBJECTIVES:
            raise RequestError(f"unknown objective '{name}' (choose {listed(OBJECTIVES)})")
    return names
