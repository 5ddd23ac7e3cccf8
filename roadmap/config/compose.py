"""Composes overrides with Hydra into checked records; the packages above use no Hydra."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from roadmap.config.cached_files import initialized
from roadmap.config.conf_dir import group_options, named_networks
from roadmap.config.hydra_errors import OTHER_GROUPS, hydra_errors, near
from roadmap.config.overrides import is_network, is_toggle, key_of, variant_name
from roadmap.config.settings import MATCHING, ConfigSettings
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.flops import count_flops
from roadmap.networks.match_flops import matched
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import ADDED_AXES, AXES, Design
from roadmap.schema.experiment import Data, Experiment, Settings
from roadmap.schema.recipe import Recipe
from roadmap.schema.regime import Regime
from roadmap.validation import Record, converted

# Hydra's own groups that only its application uses: a sixth of the time of a composition without one.
UNUSED = ("sweeper", "launcher", "help", "hydra_help", "output", "hydra_logging", "job_logging")


def by_size(size: str, values: Mapping[str, Any], *, _root_: DictConfig) -> Any:
    """``${by_size:${regime.size},{t: 0.1, s: 0.4}}`` in a recipe's file: what it has for the size of the network.

    Raises RequestError for a size that the recipe does not have.
    """
    if size not in values:
        name = _root_.recipe.name
        raise RequestError(f"recipe {name} has no values for a network of size {size} (choose size {listed(values)})")
    return values[size]


OmegaConf.register_new_resolver("by_size", by_size, replace=True)
# `added_axes` in conf/config.yaml: the config groups of the axes that have no files, each at its default.
for name, axis in ADDED_AXES.items():
    for option in axis.options:
        ConfigStore.instance().store(group=name, name=option, node={name: option}, package="design")
# the options of `size` and `model` in conf/networks.yaml
for name, entries in named_networks().items():
    for option, entry in entries.items():
        settings = {key: value for key, value in entry.items() if key not in ("library", "base")}
        below = [entry["library"]] if "library" in entry else []
        node = {"defaults": [*below, {"override /regime": entry["base"]}, "_self_"], **settings}
        ConfigStore.instance().store(group=name, name=option, node=node, package="_global_")
ConfigStore.instance().store("added_axes", {"defaults": [{name: axis.default} for name, axis in ADDED_AXES.items()]})


@dataclass(frozen=True)
class Options:
    """The plain values of a config, and the option chosen in each group, whether or not they go together."""

    values: dict[str, Any]
    choices: dict[str, str]

    @cached_property
    def settings(self) -> ConfigSettings:
        """The settings at the top level."""
        return ConfigSettings.of(self.values)

    @cached_property
    def regime(self) -> Regime:
        """The regime."""
        return Regime.from_mapping(self.values["regime"])

    @property
    def data(self) -> Data:
        """The data. Raises RequestError if its root is missing."""
        return Data.from_mapping(self.values["data"])

    @property
    def study(self) -> dict[str, Any] | None:
        """The node ``study`` before each study checks its own keys; None if no study is chosen."""
        return cast(dict[str, Any] | None, self.values.get("study"))

    @property
    def data_name(self) -> str:
        """The name of the data, whose root may be unset."""
        return str(self.values["data"]["name"])

    @property
    def path_name(self) -> str:
        """The name of the path."""
        return str(self.values["path"]["name"])


@dataclass(frozen=True)
class Composed(Options):
    """A composed config whose records have been checked.

    ``variant`` is the step's name and what differs from it in words: ``separate_downsampling norm=batch``; ``plain``
    has the options that the step itself chooses. ``asked`` is the design before ``match_gmacs`` set its width or depth,
    ``design`` the one after. With ``model=`` both are the baseline model, which has no step.
    """

    overrides: tuple[str, ...]
    design: Design | BaselineModel
    recipe: Recipe
    variant: str
    plain: dict[str, str]
    asked: Design | BaselineModel

    @property
    def asked_values(self) -> dict[str, Any]:
        """The values with the design as it was asked for."""
        return self.values | {"design": Record.to_dict(self.asked)}

    @property
    def step(self) -> str:
        """The step that the config starts from, or its baseline model."""
        return self.step_option if isinstance(self.design, Design) else self.variant.split(" ")[0]

    @property
    def step_option(self) -> str:
        """The option chosen in the group ``step``, with ``model=`` too."""
        return str(self.values["step"])

    @property
    def choice(self) -> str | None:
        """What ``match_gmacs`` made of the design, in words; None without it."""
        wanted = self.settings.match_gmacs
        if wanted is None or isinstance(self.asked, BaselineModel) or isinstance(self.design, BaselineModel):
            return None
        name = " ".join(word for word in self.variant.split() if key_of(word) not in MATCHING)
        what, before, after = "width", self.asked.width, self.design.width
        if self.settings.match_by == "depth":
            what, before, after = "blocks in the third stage", self.asked.depths[2], self.design.depths[2]
        change = f"{before} → {after}" if before != after else str(after)
        gmacs = count_flops(
            self.design,
            self.settings.image_size,
            self.regime.num_classes,
            self.recipe.network.layer_scale is not None,
        ).gmacs
        return f"{name}: {what} {change} for {gmacs:.4g} GMACs (asked for {wanted:g})"

    @property
    def seeds(self) -> list[int]:
        """The distinct ``seeds``, in their order."""
        return list(dict.fromkeys(self.settings.seeds))

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


def compose(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Composed:
    """Return ``conf/`` composed with overrides; ``config_dirs`` are folders with more config files.

    Raises RequestError, in one sentence, for every error of Hydra and OmegaConf.
    """
    with _hydra_composed(overrides, config_dirs) as (config, choices):
        return composed(config, choices, overrides, config_dirs)


def check_words(overrides: Sequence[str], config_dirs: Sequence[str]) -> None:
    """Raise RequestError for deleted keys, missing folders and Hydra's own search paths."""
    for folder in config_dirs:
        if not os.path.isdir(folder):
            raise RequestError(f"--config-dir {folder} is not a folder")
    for word in overrides:
        if word.startswith("~"):
            raise RequestError(f"'{word}' takes away what every config needs; give it a value: {key_of(word)}=…")
        group = key_of(word)
        if re.match(r"\s*\[", word.partition("=")[2]) and ("/" in group or group_options(group)):
            raise RequestError(f"'{word}' is not valid: a group takes one option; write {key_of(word)}=NAME")
        if word.lstrip("+").startswith("hydra.run.dir"):
            raise RequestError(f"'{word}' would make a folder that nothing is written to: runs lie below runs_dir=…")
        if word.lstrip("+").startswith("hydra.searchpath"):
            raise RequestError(f"'{word}' adds folders of configs unseen; name each by --config-dir")


def options_of(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Options:
    """Compose as ``compose`` does, without checking whether the options go together."""
    with _hydra_composed(overrides, config_dirs) as (config, choices):
        options = Options(_plain_values(config), choices)
    ConfigSettings.of(options.values)
    return options


def launcher_of(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of the Hydra launcher; otherwise as ``compose``."""
    with hydra_errors(overrides), initialized():
        config = hydra_compose("config", [*overrides, *searchpath(config_dirs)], return_hydra_config=True)
        return _plain_values(config.hydra.launcher)


def evaluation_values(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values of ``conf/evaluate.yaml`` with overrides; otherwise as ``compose``."""
    with _hydra_composed(overrides, config_dirs, "evaluate") as (config, _):
        return _plain_values(config)


@contextmanager
def _hydra_composed(
    overrides: Sequence[str], config_dirs: Sequence[str], name: str = "config"
) -> Iterator[tuple[DictConfig, dict[str, str]]]:
    check_words(overrides, config_dirs)
    extra = [*(f"~hydra/{group}" for group in UNUSED), *searchpath(config_dirs)]
    with hydra_errors(overrides), initialized():
        config = hydra_compose(name, [*overrides, *extra], return_hydra_config=True)
        choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
        with open_dict(config):
            del config["hydra"]
        yield config, choices


def searchpath(config_dirs: Sequence[str]) -> list[str]:
    """The override that adds folders of config files, if there are any."""
    # quoted, since a folder's name may hold what Hydra's grammar reads otherwise
    folders = [f"'file://{Path(folder).resolve()}'" for folder in config_dirs]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def _plain_values(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def composed(
    config: DictConfig, choices: Mapping[Any, Any], overrides: Sequence[str], config_dirs: Sequence[str]
) -> Composed:
    """Return a config of Hydra as plain values and checked records."""
    check_words(overrides, config_dirs)
    values = _plain_values(config)
    options = {str(group): str(option) for group, option in choices.items()}
    _check_added(config, overrides, config_dirs)
    converted(values["step"], str, "step")
    ConfigSettings.of(values)
    Regime.from_mapping(values["regime"])
    for axis in AXES:
        if axis in values:  # where Hydra puts what no header places
            raise RequestError(
                f"{axis}={options[axis]} sets nothing of the design: the first line of {axis}/{options[axis]}.yaml "
                "is to be '# @package design'"
            )
    plain = options
    if any(map(is_toggle, overrides)):
        plain = group_choices([override for override in overrides if not is_toggle(override)], config_dirs)
    asked = (
        _baseline_model(values["model"], overrides) if values.get("model") else Design.from_mapping(values["design"])
    )
    variant = variant_name(values["step"], options, plain, overrides)
    recipe = Recipe.from_mapping(values["recipe"])
    return at_equal_cost(Composed(values, options, tuple(overrides), asked, recipe, variant, plain, asked))


def group_choices(overrides: Sequence[str], config_dirs: Sequence[str]) -> dict[str, str]:
    """Return the option chosen in each group, from the defaults lists alone."""
    with hydra_errors(overrides), initialized():
        loader = GlobalHydra.instance().config_loader()
        words = [*overrides, *searchpath(config_dirs)]
        choices = loader.compute_defaults_list("config", words, RunMode.RUN).overrides.known_choices
        return {group: str(option) for group, option in choices.items()}


def _check_added(config: DictConfig, overrides: Sequence[str], config_dirs: Sequence[str]) -> None:
    """Raise RequestError for an added setting that nothing reads, as ``+epoch=3``."""
    added = {key_of(word).partition(".")[0]: word for word in overrides if word.startswith("+")}
    added = {name: word for name, word in added.items() if name in config}
    if not added:
        return
    known = options_of([], config_dirs).values
    text = OmegaConf.to_yaml(config)
    for name, word in added.items():
        read = name in (*known, *AXES, *OTHER_GROUPS) or re.search(rf"\$\{{[^}}]*\b{name}\b", text)
        if not read:
            raise RequestError(f"'{word}' adds a setting that nothing reads; {near(name)}")


def at_equal_cost(asked: Composed) -> Composed:
    """Return the config with its design scaled to ``match_gmacs``."""
    settings = asked.settings
    if settings.match_gmacs is None or isinstance(asked.asked, BaselineModel):
        return asked
    classes = asked.regime.num_classes
    design = matched(asked.asked, settings.match_gmacs, settings.match_by, settings.image_size, classes)
    return replace(asked, values=asked.values | {"design": Record.to_dict(design)}, design=design)


def _baseline_model(model: Mapping[str, Any], overrides: Sequence[str]) -> BaselineModel:
    """Return the baseline model. Raises RequestError for overrides that change our own network."""
    for word in overrides:
        if is_network(key_of(word)):
            raise RequestError(f"{word} does not go with model=: it changes our own network; leave one of them out")
    return BaselineModel.from_mapping(model)
