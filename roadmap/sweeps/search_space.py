"""What a search varies: sweeps in Hydra's grammar, checked before any trial, and any of their designs at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, RangeSweep, Transformer

from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.hydra_errors import hydra_errors
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.networks.flops import count_flops
from roadmap.schema.design import AXES, Design
from roadmap.sweeps.search import Search, check_holdout, search_of

# Settings of other sweeps, and what a search has in their place.
NOT_OF_A_SEARCH = {
    "seeds": "a trial has one seed=, and what is found is trained again with others",
    "workers": "choose study.jobs=, trials at once",
    "retries": "a trial that failed has no value",
    "objectives": "choose study.objectives=",
    "match_gmacs": "choose a band, as study.gmacs=[4.4,4.6]",
}
GROUPS = {f"design.{field}": group for group, field in AXES.items()}


@dataclass(frozen=True)
class SearchSpace:
    """A search's overrides: those that hold for every trial, those that only Hydra's application takes, its sweeps.

    ``sample`` is one of its designs, ``fields`` what each option of an axis sets.
    """

    fixed: tuple[str, ...]
    hydra: tuple[str, ...]
    sweeps: dict[str, str]
    search: Search
    sample: Composed
    fields: dict[tuple[str, str], Any]

    @classmethod
    def of(cls, overrides: Sequence[str], config_dirs: Sequence[str]) -> "SearchSpace":
        """What ``overrides`` ask for, every option of it composed once. RequestError where something does not fit."""
        hydra = tuple(word for word in overrides if key_of(word).startswith(("hydra/", "hydra.")))
        with hydra_errors(overrides):
            parsed = OverridesParser.create().parse_overrides([word for word in overrides if word not in hydra])
        varied = [str(word.input_line) for word in parsed if word.is_sweep_override()]
        fixed = tuple(str(word.input_line) for word in parsed if not word.is_sweep_override())
        for key, instead in NOT_OF_A_SEARCH.items():
            if key in map(key_of, fixed):
                raise RequestError(f"{key}= does not go with study=search; {instead}")
        values, _ = options_of([word for word in fixed if key_of(word).split(".")[0] == "study"], config_dirs)
        search = search_of(values)
        if search is None:
            raise RequestError("these overrides choose no search; choose study=search")
        asked = {key_of(word): word.split("=", 1)[1] for word in varied}
        sweeps = _sweeps(values["study"]["space"], asked, fixed)
        sample, fields = _composed(fixed, sweeps, config_dirs)
        check_holdout(sample.values)
        return cls(fixed, hydra, sweeps, search, sample, fields)

    def design(self, params: Mapping[str, Any]) -> Design:
        """The design of a trial's parameters, as Hydra would compose it. RequestError where they do not go together."""
        design = dict(self.sample.values["design"])
        for key, option in params.items():
            if key in AXES:
                design[AXES[key]] = self.fields[key, str(option)]
            else:
                design[key.removeprefix("design.")] = yaml.safe_load(str(option))
        return Design.from_mapping(design)

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Why the design of a trial's parameters is not to be trained, if so."""
        values, network = self.sample.values, self.sample.recipe.network
        try:
            design = self.design(params)
        except RequestError as error:
            return str(error)
        classes = values["regime"]["num_classes"]
        return self.search.refusal(count_flops(design, values["image_size"], classes, network.layer_scale is not None))


def _sweeps(given: Mapping[str, Any], asked: Mapping[str, str], fixed: Sequence[str]) -> dict[str, str]:
    """The study's space with the sweeps of the command line, without what that sets.

    A field of the design takes the place of the axis that sets it.
    """
    if not isinstance(given, Mapping):
        raise RequestError(f"study.space={given} does not fit: it wants what is varied, as {{kernel: 'choice(k3,k7)'}}")
    sweeps = {key: str(sweep) for key, sweep in given.items() if sweep is not None} | dict(asked)
    for key in [*map(key_of, fixed), *sweeps]:
        sweeps.pop(GROUPS.get(key, ""), None)
    for key in map(key_of, fixed):
        sweeps.pop(key, None)
    for key, sweep in sweeps.items():
        if key not in AXES and key not in GROUPS:
            raise RequestError(
                f"{key}={sweep} does not go with study=search, which compares designs trained alike; "
                "vary axes and fields of the design only"
            )
        with hydra_errors([f"{key}={sweep}"]):
            if not OverridesParser.create().parse_override(f"{key}={sweep}").is_sweep_override():
                raise RequestError(f"study.space.{key}={sweep} does not fit: it wants a sweep such as choice(a,b)")
    if not sweeps:
        raise RequestError("study.space has nothing left to vary; leave an axis free, as kernel=choice(k3,k7)")
    # in one order however they were asked for, since they are sampled in it
    return dict(sorted(sweeps.items()))


def _composed(
    fixed: Sequence[str], sweeps: Mapping[str, str], config_dirs: Sequence[str]
) -> tuple[Composed, dict[tuple[str, str], Any]]:
    """A design of the space, and what each option of an axis sets: as many at once as there are axes."""
    options = {key: _options(f"{key}={sweep}") for key, sweep in sweeps.items()}
    fitting, refusal = None, None
    fields: dict[tuple[str, str], Any] = {}
    for row in range(max(map(len, options.values()))):
        chosen = {key: listed[row % len(listed)] for key, listed in options.items()}
        words = [*fixed, *(f"{key}={option}" for key, option in chosen.items())]
        design = options_of(words, config_dirs)[0]["design"]
        fields |= {(key, option): design[AXES[key]] for key, option in chosen.items() if key in AXES}
        try:
            Design.from_mapping(design)
        except RequestError as error:
            # options that do not go together go with others
            refusal = error
        else:
            fitting = words
    if fitting is None:
        raise RequestError(f"no design that was tried of study.space fits: {refusal}")
    return compose(fitting, config_dirs), fields


def _options(sweep: str) -> list[str]:
    """Values of a sweep: all of a choice, the ends of what has too many."""
    override = OverridesParser.create().parse_override(sweep)
    value = override.value()
    if isinstance(value, RangeSweep):
        return [str(value.start), str(value.stop)]  # which the sweeper takes in, unlike Hydra
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return [str(option) for option in override.sweep_iterator(transformer=Transformer.encode)]
