"""The variant that each variant is compared with: the step before on a path, or one baseline."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.recipe import Recipe
from roadmap.steps.path_file import paper_parents

if TYPE_CHECKING:
    # composing needs Hydra
    from roadmap.steps.path import Step


class PaperPath:
    """The paper's path by the names of its steps, which may all have the same toggles."""

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        """The step before; for a toggled step, the step before with the same toggles, or else the step itself."""
        step, _, toggles = variant.partition(" ")
        before = paper_parents().get(step)
        if not toggles:
            return before
        toggled = f"{before} {toggles}"
        return toggled if toggled in variants else step

    def holds(self, variant: str) -> bool:
        """Whether the variant is a step with its own recipe."""
        step, *toggles = variant.split()
        return step in paper_parents() and not any(toggle.startswith("recipe") for toggle in toggles)


@dataclass(frozen=True)
class OwnPath:
    """A path of the user's own, given as the parent of each variant."""

    parents: Mapping[str, str | None]

    @classmethod
    def of(cls, steps: "Sequence[Step]") -> "OwnPath":
        """The path with these ``steps``; steps with the same design and recipe share the first one's variant."""
        first: dict[tuple[Design | BaselineModel, Recipe], str] = {}
        variants = {
            step.name: first.setdefault((step.composed.design, step.composed.recipe), step.composed.variant)
            for step in steps
        }
        parents: dict[str, str | None] = {}
        for step in steps:
            parents.setdefault(variants[step.name], variants[step.parent] if step.parent else None)
        return cls(parents)

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        return self.parents.get(variant)

    def holds(self, variant: str) -> bool:
        return variant in self.parents or PaperPath().holds(variant)


@dataclass(frozen=True)
class Baseline:
    """Every variant is compared with this one."""

    variant: str

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        return self.variant

    def holds(self, variant: str) -> bool:
        return PaperPath().holds(variant)
