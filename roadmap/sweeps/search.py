"""The settings of a search for designs: objectives, sampler, bounds of cost, pruning."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from roadmap.config.compose import options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.networks.flops import Cost
from roadmap.validation import PositiveInt, Record

COSTS = {"gmacs": "GMACs", "params_m": "M parameters"}


class Prune(Record):
    """When a run may be stopped before its last epoch."""

    place: ClassVar[str] = "study.prune"

    warmup_epochs: PositiveInt  # that every run gets
    startup_runs: PositiveInt  # finished runs to compare with, at least


class Search(Record):
    """The node ``study`` of a search without its space; ``gmacs`` and ``params_m`` are [least, most] of a design."""

    place: ClassVar[str] = "study"

    name: Literal["search"]
    objectives: tuple[str, ...]
    n_trials: PositiveInt
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
            bounds = getattr(self, cost)
            if bounds is not None and not 0 <= bounds[0] <= bounds[1]:
                raise RequestError(f"study.{cost} must be [least, most] (got {list(bounds)})")

    @property
    def cost(self) -> str | None:
        """The objective besides accuracy, if there is one."""
        return self.objectives[1] if len(self.objectives) > 1 else None

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Optuna's direction of each objective."""
        return ["maximize", "minimize"] if self.cost else ["maximize"]

    def refusal(self, count: Cost) -> str | None:
        """Why a design of this cost is not trained; None within the bounds."""
        for cost, unit in COSTS.items():
            bounds, value = getattr(self, cost), getattr(count, cost)
            if bounds is not None and not bounds[0] <= value <= bounds[1]:
                return f"{value:.4g} {unit} are outside study.{cost}=[{bounds[0]:g},{bounds[1]:g}]"
        return None


def search_of(study: Any) -> Search | None:
    """Return the search that a config's node ``study`` asks for; None if it is another study."""
    if not isinstance(study, Mapping) or study.get("name") != "search":
        return None
    return Search.from_mapping({key: value for key, value in study.items() if key != "space"})


def is_search(overrides: Sequence[str], config_dirs: Sequence[str]) -> bool:
    """Whether the study that ``overrides`` choose is a search. Raises RequestError where Optuna is not installed."""
    chosen = [override for override in overrides if key_of(override) == "study"]
    if not chosen or search_of(options_of(chosen, config_dirs).study) is None:
        return False
    if find_spec("optuna") is None:
        raise RequestError("study=search needs Optuna; pip install 'convnext-roadmap[search]'")
    return True
