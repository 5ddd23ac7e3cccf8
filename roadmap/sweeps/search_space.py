"""The settings of an architecture search, and its space: sweeps over axes and design fields in Hydra's grammar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from json import dumps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from hydra.errors import HydraException
from msgspec import Meta
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.hydra_errors import hydra_errors
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.networks.flops import count_flops
from roadmap.runs.run_folder import one_name
from roadmap.schema.design import AXES, Design
from roadmap.sweeps.planning import of_runs
from roadmap.validation import PositiveInt, Record

COSTS = ("gmacs", "params_m")
FIELDS = {f"design.{field}": group for group, field in AXES.items()}  # field -> axis that sets it
DEFINED_BY = ("regime", "recipe", "data", "seed", "epochs", "batch_size", "image_size", "precision", "pretrained")


class Prune(Record):
    """Median pruning: when a run may be stopped early."""

    place: ClassVar[str] = "study.prune"

    warmup_epochs: PositiveInt  # no pruning before this epoch
    startup_runs: PositiveInt  # no pruning before this many runs have finished


class Search(Record):
    """``study=search``. ``gmacs`` (×10⁹) and ``params_m`` (×10⁶) are [min, max] bounds on the cost of a design."""

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
    space: dict[str, Any]

    def __post_init__(self) -> None:
        if self.objectives not in (("top1",), *(("top1", cost) for cost in COSTS)):
            raise RequestError(
                f"unknown study.objectives {list(self.objectives)} (choose [top1], [top1, gmacs] or [top1, params_m])"
            )

    @property
    def cost(self) -> str | None:
        """The second objective, or None."""
        return self.objectives[1] if len(self.objectives) > 1 else None


@dataclass(frozen=True)
class SearchSpace:
    """The search space. ``base`` is the config composed from ``fixed``, the overrides shared by all trials.

    ``sweeps`` maps each varied axis or field to its sweep, and ``options`` each option of an axis to its field's value.
    """

    search: Search
    base: Composed
    fixed: tuple[str, ...]
    config_dirs: tuple[str, ...]
    sweeps: dict[str, str]
    distributions: dict[str, BaseDistribution]
    options: dict[tuple[str, str], Any]

    @classmethod
    def of(cls, overrides: Sequence[str], config_dirs: Sequence[str]) -> "SearchSpace":
        """Return the space defined by overrides; composes every option once. Raises RequestError if it is invalid."""
        with hydra_errors(overrides):
            parsed = OverridesParser.create().parse_overrides(list(overrides))
        varied = dict(str(word.input_line).split("=", 1) for word in parsed if word.is_sweep_override())
        fixed = tuple(str(word.input_line) for word in parsed if not word.is_sweep_override())
        for key in map(key_of, fixed):
            if key in ("seeds", "match_gmacs"):
                raise RequestError(f"{key}= does not go with study=search; choose seed= and study.gmacs=[least,most]")
        composing = [word for word in fixed if not key_of(word).startswith("hydra")]
        base = options_of(composing, config_dirs)
        search = Search.from_mapping(base.study)
        if not base.data.holdout:
            raise RequestError(
                "data.holdout=0 would make the search choose designs by the test images; "
                "hold out a share of the training images, as data.holdout=0.2"
            )
        sweeps = _sweeps(search.space, varied, list(map(key_of, fixed)))
        distributions = {key: distribution(f"{key}={sweep}") for key, sweep in sweeps.items()}
        options = _options(composing, distributions, config_dirs)
        return cls(search, base, fixed, tuple(config_dirs), sweeps, distributions, options)

    @property
    def name(self) -> str:
        """Regime, data, and a hash of the search's definition without the number of trials."""
        values = self.base.values
        varied = {AXES.get(key, key.removeprefix("design.")) for key in self.sweeps}
        design = {field: value for field, value in self.base.design_fields.items() if field not in varied}
        settings = {key: value for key, value in self.search.to_dict().items() if key not in ("n_trials", "space")}
        text = dumps([design, self.sweeps, settings, *(values[key] for key in DEFINED_BY)], sort_keys=True)
        digest = sha256(text.encode()).hexdigest()[:6]
        return one_name("search", self.base.regime.name, self.base.data_name, digest)

    @property
    def folder(self) -> Path:
        """The folder of the search's journal and figure."""
        return Path(self.base.settings.runs_dir) / "searches" / self.name

    def composed(self, params: Mapping[str, Any]) -> Composed:
        """Return the config of a trial."""
        # study= stays, since it sets the holdout and the recipe
        fixed = [word for word in self.fixed if of_runs(word) or key_of(word).split(".")[0] == "study"]
        return compose([*fixed, *(f"{key}={option}" for key, option in params.items())], self.config_dirs)

    def design(self, params: Mapping[str, Any]) -> Design:
        """Return the design of a trial without composing its config. Raises RequestError if it is invalid."""
        design = self.base.design_fields
        for key, option in params.items():
            if key in AXES:
                design[AXES[key]] = self.options[key, option]
            else:
                design[key.removeprefix("design.")] = yaml.safe_load(str(option))
        return Design.from_mapping(design)

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Return why a design is rejected (invalid or out of bounds), or None if it is accepted."""
        try:
            design = self.design(params)
        except RequestError as error:
            return str(error)
        base = self.base
        layer_scale = base.recipe.network.layer_scale is not None
        cost = count_flops(design, base.settings.image_size, base.regime.num_classes, layer_scale)
        for name in COSTS:
            bounds, value = getattr(self.search, name), getattr(cost, name)
            if bounds is not None and not bounds[0] <= value <= bounds[1]:
                return f"{name} {value:.4g} is outside study.{name}=[{bounds[0]:g},{bounds[1]:g}]"
        return None


def _sweeps(space: Mapping[str, Any], varied: Mapping[str, str], fixed: Sequence[str]) -> dict[str, str]:
    """Return the study's space updated with the command line's sweeps, without the ``fixed`` keys.

    A design field replaces the axis that sets it.
    """
    sweeps = {key: str(sweep) for key, sweep in space.items() if sweep is not None} | dict(varied)
    replaced = {*fixed, *(FIELDS.get(key) for key in (*fixed, *sweeps))}
    # sorted, because the sampler draws them in this order
    sweeps = {key: sweeps[key] for key in sorted(sweeps) if key not in replaced}
    for key, sweep in sweeps.items():
        if key not in AXES and key not in FIELDS:
            raise RequestError(
                f"{key}={sweep} cannot be varied by study=search, which compares designs trained alike; "
                "vary axes and fields of the design only"
            )
    if not sweeps:
        raise RequestError("study.space is empty; vary an axis, such as kernel=choice(k3,k7)")
    return sweeps


def _options(
    fixed: Sequence[str], distributions: Mapping[str, BaseDistribution], config_dirs: Sequence[str]
) -> dict[tuple[str, str], Any]:
    """Return the design field's value for each option of the varied axes, one option of every axis at a time."""
    listed = {key: kind.choices for key, kind in distributions.items() if isinstance(kind, CategoricalDistribution)}
    axes = [key for key in listed if key in AXES]
    options: dict[tuple[str, str], Any] = {}
    for row in zip_longest(*(listed[axis] for axis in axes)):
        chosen = {axis: str(option) for axis, option in zip(axes, row, strict=True) if option is not None}
        words = [f"{axis}={option}" for axis, option in chosen.items()]
        design = options_of([*fixed, *words], config_dirs).design_fields
        options |= {(axis, option): design[AXES[axis]] for axis, option in chosen.items()}
    return options


def distribution(word: str) -> BaseDistribution:
    """Return a sweep as Optuna's distribution. As in Hydra, a range excludes its end."""
    with hydra_errors([word]):
        override = OverridesParser.create().parse_override(word)
    try:
        if override.is_range_sweep() and key_of(word) in FIELDS:
            sweep: Any = override.value()
            low, high = sorted((sweep.range()[0], sweep.range()[-1]))
            return IntDistribution(low, high, step=abs(sweep.step))
        return CategoricalDistribution([str(option) for option in override.sweep_iterator(Transformer.encode)])
    except (ValueError, TypeError, IndexError, OverflowError, HydraException) as error:
        raise RequestError(
            f"study.space.{word} is not a sweep to choose from; write choice(a,b) or a range of integers, range(8,33,8)"
        ) from error
