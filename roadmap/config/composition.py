"""Composes the files of ``conf/`` and overrides with Hydra: plain values, and the option chosen in each group."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from roadmap.config.hydra_errors import hydra_errors, initialized
from roadmap.config.overrides import key_of, searchpath
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.torchvision_sets import torchvision_set

# Hydra's own groups that only its application uses: a sixth of the time of a composition without one.
GROUPS = ("sweeper", "launcher", "help", "hydra_help", "output", "hydra_logging", "job_logging")
UNUSED = [f"~hydra/{group}" for group in GROUPS]
Values = dict[str, Any]
Choices = dict[str, str]  # the option of each group


def by_size(size: str, values: Mapping[str, Any], *, _root_: DictConfig) -> Any:
    """``${by_size:${regime.size},{t: 0.1, s: 0.4}}`` in a recipe's file: what it has for the size of the network.

    Raises RequestError for a size that the recipe does not have.
    """
    if size not in values:
        name = _root_.recipe.name
        raise RequestError(f"recipe {name} has no values for a network of size {size} (choose size {listed(values)})")
    return values[size]


OmegaConf.register_new_resolver("by_size", by_size, replace=True)
OmegaConf.register_new_resolver(
    "torchvision", lambda name, field: getattr(torchvision_set(str(name)), field), replace=True
)


def check_words(overrides: Sequence[str], config_dirs: Sequence[str]) -> None:
    """Raise RequestError for deleted keys, missing folders and Hydra's own search paths."""
    for folder in config_dirs:
        if not os.path.isdir(folder):
            raise RequestError(f"--config-dir {folder} is not a folder")
    for word in overrides:
        if word.startswith("~"):
            raise RequestError(f"'{word}' takes away what every config needs; give it a value: {key_of(word)}=…")
        if word.lstrip("+").startswith("hydra.searchpath"):
            raise RequestError(f"'{word}' adds folders of configs unseen; name each by --config-dir")


def composition(name: str, overrides: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> tuple[Values, Choices]:
    """Return the values of ``conf/NAME.yaml`` with overrides, and each group's option; do not change them."""
    check_words(overrides, config_dirs)
    run = _compose.__wrapped__ if config_dirs else _compose  # the user's own files may change
    return run(name, tuple(overrides), tuple(config_dirs))


@lru_cache(maxsize=1024)
def _compose(name: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> tuple[Values, Choices]:
    with hydra_errors(overrides, config_dirs), initialized():
        config = hydra_compose(name, [*overrides, *UNUSED, *searchpath(config_dirs)], return_hydra_config=True)
        choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
        with open_dict(config):
            del config["hydra"]
        return plain_values(config), choices


def plain_values(config: DictConfig) -> Values:
    """Return a composed config as plain values, its interpolations resolved."""
    return dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def group_choices(overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> Choices:
    """Return the option chosen in each group, from the defaults lists alone."""
    with hydra_errors(overrides, config_dirs), initialized():
        loader = GlobalHydra.instance().config_loader()
        words = [*overrides, *UNUSED, *searchpath(config_dirs)]
        choices = loader.compute_defaults_list("config", words, RunMode.RUN).overrides.known_choices
        return {group: str(option) for group, option in choices.items()}
