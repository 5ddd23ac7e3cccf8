"""Words of the command line, ``group=option`` and ``setting=value``: what each is about, and a variant's name."""

from collections.abc import Mapping, Sequence

from roadmap.config.settings import MATCHING
from roadmap.schema.design import AXES

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
    return key in TOGGLES or key in MATCHING or key.startswith(("design.", "recipe."))


def variant_name(step: str, choices: Mapping[str, str], plain: Mapping[str, str], overrides: Sequence[str]) -> str:
    """A step's name and what was toggled: options that it does not choose by itself, and single values."""
    groups = [f"{group}={choices[group]}" for group in TOGGLES if choices[group] != plain[group]]
    values = [word.lstrip("+") for word in overrides if is_toggle(word) and key_of(word) not in TOGGLES]
    return " ".join([_origin(step, choices, overrides), *groups, *values])


def _origin(step: str, choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """What a variant starts from: its step, or a baseline model with the words that make it."""
    if choices.get("model", "None") == "None":
        return step
    words = [word.lstrip("+") for word in overrides if is_baseline_model(key_of(word)) and key_of(word) != "model"]
    return " ".join([f"model={choices['model']}", *sorted(words, key=lambda word: key_of(word) != "name")])
