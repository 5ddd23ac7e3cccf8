"""Which variant is which one's parent: the step before on a path, or a baseline."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.recipe import Recipe
from roadmap.steps.path_file import paper_parents

if TYPE_CHECKING:
    # composing takes Hydra, which comparing by names does without
    from roadmap.steps.path import Step


class PaperPath:
    """The paper's path, by the steps' names; its steps may all be toggled alike."""

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        """The step before; of a toggled step the one before toggled alike, or else the step itself."""
        step, _, toggles = variant.partition(" ")
        before = paper_parents().get(step)
        if not toggles:
            return before
        alike = f"{before} {toggles}"
        return alike if alike in variants else step

    def holds(self, variant: str) -> bool:
        """Any step whose recipe is its own."""
        step, *toggles = variant.split()
        return step in paper_parents() and not any(toggle.startswith("recipe") for toggle in toggles)


@dataclass(frozen=True)
class OwnPath:
    """A path of the user's: ``parents`` says each variant's."""

    parents: Mapping[str, str | None]

    @classmethod
    def of(cls, steps: "Sequence[Step]") -> "OwnPath":
        """The path whose steps these are, by their variants; steps that are one design and recipe share a run's."""
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
    """Every variant against one."""

    variant: str

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        return self.variant

    def holds(self, variant: str) -> bool:
        return PaperPath().holds(variant)
