"""Composes overrides with Hydra into checked records; the packages above use no Hydra."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from omegaconf import DictConfig

from roadmap.config.composition import Choices, Values, check_words, composition, group_choices, plain_values
from roadmap.config.overrides import TOGGLES, is_network, is_toggle, key_of, variant_name
from roadmap.errors import RequestError
from roadmap.networks.flops import Scale, count_flops, matched
from roadmap.networks.rows import Cost
from roadmap.schema.design import AXES, BaselineModel, Design, Regime
from roadmap.schema.experiment import Data, Experiment, ImageSize, Settings
from roadmap.schema.recipe import Recipe
from roadmap.validation import NonNegativeInt, PositiveInt, Record


class ConfigSettings(Settings):
    """All settings that belong to no group. Without ``match_gmacs``, designs keep their width and depth."""

    seed: int
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)]
    epochs: PositiveInt
    batch_size: PositiveInt
    image_size: ImageSize
    precision: Literal["fp32", "bf16", "fp16"]
    pretrained: str | None
    match_gmacs: Annotated[float, Meta(gt=0, le=1_000_000)] | None
    match_by: Scale
    packed: PositiveInt
    retries: NonNegativeInt
    steps: tuple[str, ...] | None
    until: Literal["decided"] | None
    budget: int | str | None
    equivalence: Annotated[float, Meta(gt=0, le=100)] | None

    @property
    def jobs(self) -> int:
        """The launcher's jobs of a sweep. Raises RequestError for ``auto``, which launchers do not know."""
        if self.workers == "auto":
            raise RequestError("workers=auto belongs to `roadmap run`; a sweep takes a number (workers=2)")
        return self.workers


@dataclass(frozen=True)
class Composed:
    """A composed config: its plain values, the option chosen in each group, and the records made of the values.

    Each record is checked when it is first read; ``check`` reads all.
    """

    values: Values
    choices: Choices
    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...] = ()

    @cached_property
    def settings(self) -> ConfigSettings:
        return ConfigSettings.from_mapping({name: self.values[name] for name in ConfigSettings.__struct_fields__})

    @cached_property
    def regime(self) -> Regime:
        return Regime.from_mapping(self.values["regime"])

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.from_mapping(self.values["recipe"])

    @property
    def data(self) -> Data:
        """The data. Raises RequestError if its root is missing."""
        return Data.from_mapping(self.values["data"])

    @property
    def data_name(self) -> str:
        """The name of the data, whose root may be unset."""
        return str(self.values["data"]["name"])

    @property
    def path_name(self) -> str:
        return str(self.values["path"]["name"])

    @property
    def design_fields(self) -> Values:
        """The node ``design`` before it is checked, for designs that are only proposed."""
        return dict(self.values["design"])

    @property
    def study(self) -> Values | None:
        """The node ``study`` before each study checks its own keys; None if no study is chosen."""
        return self.values.get("study")

    @property
    def seeds(self) -> list[int]:
        """The distinct ``seeds``, in their order."""
        return list(dict.fromkeys(self.settings.seeds))

    @cached_property
    def asked(self) -> Design | BaselineModel:
        """The design before ``match_gmacs`` sets its width or depth, or the baseline model of ``model=``."""
        if not self.values.get("model"):
            return Design.from_mapping(self.values["design"])
        for word in self.overrides:
            if is_network(key_of(word)):
                raise RequestError(f"{word} does not go with model=: it changes our own network; leave one of them out")
        return BaselineModel.from_mapping(self.values["model"])

    @cached_property
    def design(self) -> Design | BaselineModel:
        """The design that is trained, scaled to ``match_gmacs``, or the baseline model."""
        settings = self.settings
        if settings.match_gmacs is None or isinstance(self.asked, BaselineModel):
            return self.asked
        return _matched(
            self.asked, settings.match_gmacs, settings.match_by, settings.image_size, self.regime.num_classes
        )

    @cached_property
    def plain(self) -> Choices:
        """The option of each group without the toggles: those that the step itself chooses."""
        if not any(map(is_toggle, self.overrides)):
            return self.choices
        words = (word for word in self.overrides if key_of(word) in self.choices and not is_toggle(word))
        return group_choices(tuple(word for word in words if not word.startswith("hydra")), self.config_dirs)

    @cached_property
    def variant(self) -> str:
        """The name of the step or baseline model and what was toggled: ``separate_downsampling norm=batch``."""
        return variant_name(self.choices["step"], self.choices, self.plain, self.overrides)

    @property
    def step(self) -> str:
        """The step that the config starts from, or its baseline model."""
        return self.choices["step"] if isinstance(self.design, Design) else self.variant.split(" ")[0]

    @property
    def cost(self) -> Cost | None:
        """The cost of one image, counted without torch; None for a baseline model."""
        if isinstance(self.design, BaselineModel):
            return None
        scaled = self.recipe.network.layer_scale is not None
        return count_flops(self.design, self.settings.image_size, self.regime.num_classes, scaled)

    @property
    def choice(self) -> str | None:
        """What ``match_gmacs`` made of the design, in words; None without it."""
        if self.settings.match_gmacs is None or isinstance(self.design, BaselineModel) or self.cost is None:
            return None
        size = f"width {self.design.width}"
        if self.settings.match_by == "depth":
            size = f"{self.design.depths[2]} blocks in the third stage"
        return f"{self.variant}: {size}, {self.cost.gmacs:.4g} GMACs"

    @property
    def logged_values(self) -> Values:
        """The values as a run's folder holds them: with the design that is trained."""
        return self.values | {"design": Record.to_dict(self.design)}

    def check(self) -> "Composed":
        """Return the config. Raises RequestError if a record is not valid or options do not go together."""
        for group in (*TOGGLES, "step", "regime", "model", "data", "path"):
            if group not in self.choices:  # Hydra's own way with a list of options
                raise RequestError(f"{group}= takes one option; write {group}=NAME")
            if group in AXES and group in self.values:  # where Hydra puts what no header places
                file = f"{group}/{self.choices[group]}.yaml"
                raise RequestError(f"{file} sets nothing of the design: its first line must be '# @package design'")
        for word in self.overrides:
            self._check_read(word)
        _ = self.settings, self.regime, self.design, self.recipe, self.variant
        return self

    def _check_read(self, word: str) -> None:
        """Raise RequestError for an added setting that nothing reads, such as ``+epoch=3``."""
        name = key_of(word).partition(".")[0]
        if not word.startswith("+") or name not in self.values or name in self.choices:
            return
        known = composition("config")[0]
        files = [
            file.read_text("utf-8", "replace") for folder in self.config_dirs for file in Path(folder).rglob("*.yaml")
        ]
        if name not in known and not any(re.search(rf"\$\{{\s*{name}\b", text) for text in (*self.overrides, *files)):
            alike = get_close_matches(name, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike else "`roadmap train --cfg job` shows every setting"
            raise RequestError(f"'{word}' adds a setting that nothing reads; {hint}")

    def with_seed(self, seed: int) -> "Composed":
        """The same config with another seed."""
        return replace(self, values=self.values | {"seed": seed}, overrides=(*self.overrides, f"seed={seed}"))

    def experiment(self) -> Experiment:
        """The checked record of the run that this config asks for. Raises RequestError if it is not valid."""
        shared = ("seed", "epochs", "batch_size", "image_size", "precision", "pretrained")
        return Experiment.from_mapping(
            {key: getattr(self.settings, key) for key in shared}
            | {
                "step": self.step,
                "regime": self.regime.name,
                "variant": self.variant,
                "design": self.design,
                "recipe": self.recipe,
                "data": self.data,
                "logger": self.values["logger"],
                "settings": {key: getattr(self.settings, key) for key in Settings.__struct_fields__},
            }
        )


_matched = lru_cache(maxsize=1024)(matched)


def compose(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Composed:
    """Return ``conf/`` composed with overrides; ``config_dirs`` are folders with more config files.

    Raises RequestError, in one sentence, for every error of Hydra and OmegaConf.
    """
    return options_of(overrides, config_dirs).check()


def options_of(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Composed:
    """Compose as ``compose`` does, without checking whether the options go together."""
    found = Composed(*composition("config", overrides, config_dirs), tuple(overrides), tuple(config_dirs))
    _ = found.settings
    return found


def composed(
    config: DictConfig, choices: Mapping[Any, Any], overrides: Sequence[str], config_dirs: Sequence[str]
) -> Composed:
    """Return the config of a Hydra application as plain values and checked records."""
    check_words(overrides, config_dirs)
    options = {str(group): str(option) for group, option in choices.items()}
    return Composed(plain_values(config), options, tuple(overrides), tuple(config_dirs)).check()
