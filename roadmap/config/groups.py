"""Config groups whose options are not files: Hydra finds them in its ConfigStore once this module is imported."""

from functools import cache
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from roadmap.config import config_dir
from roadmap.schema.design import ADDED_AXES, AXIS_OPTIONS


@cache
def options_in(file: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return group -> option -> settings of a file in ``conf/`` that holds many options."""
    return dict(yaml.safe_load((config_dir() / file).read_text(encoding="utf-8")))


def _name(axis: str, option: str | int) -> str:
    """Return an option's name: ``p2`` for 2 of the axis ``patch``, as Hydra takes no number for a name."""
    return option if isinstance(option, str) else f"{axis[0]}{option}"


def _register() -> None:
    store = ConfigStore.instance().store
    for axis, options in AXIS_OPTIONS.items():
        for option in options:
            store(group=axis, name=_name(axis, option), node={axis: option}, package="design")
    store("added_axes", {"defaults": [{axis: _name(axis, default)} for axis, default in ADDED_AXES.items()]})
    for group, recipes in options_in("scaled_recipes.yaml").items():
        for name, node in recipes.items():
            store(group=group, name=name, node=node, package="recipe")
    for group, networks in options_in("networks.yaml").items():
        for name, entry in networks.items():
            settings = {key: value for key, value in entry.items() if key not in ("library", "base")}
            below = [entry["library"]] if "library" in entry else []
            node = {"defaults": [*below, {"override /regime": entry["base"]}, "_self_"], **settings}
            store(group=group, name=name, node=node, package="_global_")


_register()
