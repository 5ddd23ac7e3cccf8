"""Differences between configs, applied without Hydra, which composes ten configs in a second."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from roadmap.config.compose import Composed
from roadmap.config.composition import Choices, Values
from roadmap.config.overrides import TOGGLES, key_of


class Patch(NamedTuple):
    """Fields of the design, other values and options of groups that differ from another config."""

    design: Values
    values: Values
    options: Choices

    @classmethod
    def between(cls, before: Composed, values: Values, choices: Choices) -> "Patch":
        """Return the patch from a config to the values and choices of another."""
        others = {key: value for key, value in values.items() if key not in ("design", "step")}
        toggles = {group: option for group, option in choices.items() if group in TOGGLES}
        return cls(
            _changed(before.values["design"], values["design"]),
            _changed(before.values, others),
            _changed(before.choices, toggles),
        )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if before.get(key, ...) != value}


def patched(base: Composed, patches: Sequence[Patch], overrides: Sequence[str]) -> Composed:
    """Return what Hydra would compose from ``overrides``: ``base`` with all patches.

    Raises RequestError if the values exclude each other.
    """
    values, choices, design = dict(base.values), dict(base.choices), dict(base.values["design"])
    for patch in patches:
        values |= patch.values
        choices |= patch.options
        design |= patch.design
    named = {key_of(word): word.partition("=")[2] for word in overrides}.get("step", base.choices["step"])
    values |= {"step": named, "design": design}
    return replace(base, values=values, choices=choices | {"step": named}, overrides=tuple(overrides)).check()
