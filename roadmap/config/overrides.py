"""Words of the command line, ``group=option`` and ``setting=value``: what each is about, and a variant's name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from roadmap.schema.design import AXES

MATCHING = ("match_gmacs", "match_by")
# Overrides that change what a network is or how it is trained: what a variant is named by.
TOGGLES = (*AXES, "size", "recipe")


def key_of(override: str) -> str:
    """What an override sets."""
    return override.lstrip("+~").partition("=")[0]


def is_network(key: str) -> bool:
    """Whether an override of this key chooses or changes our own network."""
    return key in (*AXES, *MATCHING, "step", "size") or key.startswith("design.")


def is_baseline_model(key: str) -> bool:
    """Whether an override of this key chooses or changes a baseline model."""
    return key in ("model", "name") or key.startswith("model.")


def is_toggle(override: str) -> bool:
    """Whether an override changes what a network is or how it is trained."""
    key = key_of(override)
    return key in (*TOGGLES, *MATCHING) or key.startswith(("design.", "recipe."))


def variant_name(step: str, choices: Mapping[str, str], plain: Mapping[str, str], overrides: Sequence[str]) -> str:
    """A step's name, or a baseline model's, and what was toggled: options not in ``plain``, and single values."""
    origin = [step]
    if choices.get("model", "None") != "None":
        words = [word.lstrip("+") for word in overrides if is_baseline_model(key_of(word)) and key_of(word) != "model"]
        origin = [f"model={choices['model']}", *sorted(words, key=lambda word: key_of(word) != "name")]
    groups = [f"{group}={choices[group]}" for group in TOGGLES if choices[group] != plain[group]]
    values = [word.lstrip("+") for word in overrides if is_toggle(word) and key_of(word) not in TOGGLES]
    return " ".join([*origin, *groups, *values])


def searchpath(config_dirs: Sequence[str]) -> list[str]:
    """The override that adds folders of config files, if there are any."""
    # quoted, since a folder's name may hold what Hydra's grammar reads otherwise
    folders = [f"'file://{Path(folder).resolve()}'" for folder in config_dirs]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []
