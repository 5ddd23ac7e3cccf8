"""Configs made by patching another one: Hydra composes ten in a second, and a sweep may have thousands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from roadmap.config.compose import Composed, at_equal_cost
from roadmap.config.overrides import TOGGLES, variant_name
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.recipe import Recipe
from roadmap.validation import Record


@dataclass(frozen=True)
class Patch:
    """The fields of the design, other values and options of groups that differ from another config."""

    design: Mapping[str, Any]
    values: Mapping[str, Any]
    options: Mapping[str, str]

    @classmethod
    def between(cls, before: Composed, values: Mapping[str, Any], choices: Mapping[str, str]) -> "Patch":
        """Return the patch from a config to the values and choices of another."""
        groups = {group: option for group, option in choices.items() if group in TOGGLES}
        return cls(
            {} if isinstance(before.asked, BaselineModel) else _changed(Record.to_dict(before.asked), values["design"]),
            {key: value for key, value in _changed(before.values, values).items() if key not in ("design", "step")},
            _changed(before.choices, groups),
        )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if before.get(key, ...) != value}


def patched(
    base: Composed, patches: Sequence[Patch], overrides: Sequence[str], origin: Composed | None = None
) -> Composed:
    """Return what Hydra would compose from ``overrides``: ``base`` with all patches, named from ``origin``'s step.

    Raises RequestError if the values exclude each other.
    """
    origin = origin or base
    values, choices, fields = dict(base.values), dict(base.choices), dict[str, Any]()
    for patch in patches:
        values |= patch.values
        choices |= patch.options
        fields |= patch.design
    design = base.asked
    if isinstance(design, Design):
        design = Design.from_mapping({**design.to_dict(), **fields})
    changed_recipe = any("recipe" in patch.values for patch in patches)
    result = replace(
        base,
        values=values | {"step": origin.step_option, "design": Record.to_dict(design)},
        choices=choices,
        overrides=tuple(overrides),
        design=design,
        recipe=Recipe.from_mapping(values["recipe"]) if changed_recipe else base.recipe,
        variant=variant_name(origin.step_option, choices, origin.plain, overrides),
        asked=design,
    )
    return at_equal_cost(result)
