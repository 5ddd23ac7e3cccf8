"""Every set of a path's changes as a config: what the changes are worth is asked of sets, not of one order."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from roadmap.config.compose import Composed, compose, derived
from roadmap.config.overrides import TOGGLES, key_of, variant_name
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.baseline_model import BaselineModel
from roadmap.steps.path import Step
from roadmap.validation import Record


@dataclass(frozen=True)
class Change:
    """An adopted row of a path after its first, as the overrides that make it anywhere: ``("kernel=k7",)``."""

    name: str
    label: str
    section: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Lattice:
    """All sets of changes, each a mask whose bit i stands for ``changes[i]``.

    A set is the path's first row with the set's changes in the path's order, whatever order they were thought of in,
    so a set is one design and recipe. Some sets are not feasible: the rule is Design's own.
    """

    changes: tuple[Change, ...]
    steps: tuple[Step, ...]  # the path's adopted ones
    present: frozenset[str]  # other changes of the path, which every set has
    config_dirs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        steps: Sequence[Step],
        names: Sequence[str] | None = None,
        others: bool = False,
        config_dirs: Sequence[str] = (),
    ) -> "Lattice":
        """The lattice of a composed path; of the changes in ``names`` only, with all ``others`` or without.

        Changes that change nothing, as overrides on the command line may have it, are left out. Raises RequestError for
        an unknown name and where no change is left.
        """
        adopted = [step for step in steps if step.adopted]
        real = [step for step in adopted[1:] if _change(step).overrides]
        known = [step.name for step in real]
        for name in names or ():
            if name not in known:
                raise RequestError(f"unknown change '{name}' in study.changes (choose {listed(known)})")
        changes = tuple(_change(step) for step in real if names is None or step.name in names)
        if not changes:
            raise RequestError("this path has no change to study: it wants an adopted row that differs from the first")
        present = frozenset(known) - {change.name for change in changes} if others else frozenset()
        return cls(changes, tuple(adopted), present, tuple(config_dirs))

    @property
    def full(self) -> int:
        """The mask of all changes."""
        return 2 ** len(self.changes) - 1

    def mask(self, names: Iterable[str]) -> int:
        """The set of the named changes; RequestError for one that is not there."""
        places = {change.name: place for place, change in enumerate(self.changes)}
        total = 0
        for name in names:
            if name not in places:
                raise RequestError(f"unknown change '{name}' (choose {listed(places)})")
            total |= 1 << places[name]
        return total

    def names(self, mask: int) -> list[str]:
        """The changes in a set, in the path's order."""
        return [change.name for place, change in enumerate(self.changes) if mask >> place & 1]

    def feasible(self, mask: int) -> bool:
        """Whether the set's options go together."""
        try:
            self.point(mask)
        except RequestError:
            return False
        return True

    def masks(self) -> list[int]:
        """All feasible sets, ascending."""
        return [mask for mask in range(self.full + 1) if self.feasible(mask)]

    def without(self, name: str) -> int:
        """The full set without a change, and without as few others as have to go with it."""
        return self.full ^ self._smallest(name, lambda extra: self.feasible(self.full ^ extra))

    def alone(self, name: str) -> int:
        """The set of a change, and of as few others as it needs."""
        return self._smallest(name, self.feasible)

    def _smallest(self, name: str, fits: Callable[[int], bool]) -> int:
        own = self.mask([name])
        rest = [1 << place for place in range(len(self.changes)) if not own >> place & 1]
        sums = (own | sum(others) for count in range(len(rest) + 1) for others in itertools.combinations(rest, count))
        return next(mask for mask in sums if fits(mask))

    def point(self, mask: int) -> Composed:
        """The config of a set. Raises RequestError, naming the set, where its options do not go together."""
        if mask not in self._points:
            try:
                self._points[mask] = self._compose(mask)
            except RequestError as error:
                self._points[mask] = RequestError(f"{' + '.join(self.names(mask)) or 'no change'}: {error}")
        point = self._points[mask]
        if isinstance(point, RequestError):
            raise point
        return point

    @cached_property
    def _points(self) -> dict[int, Composed | RequestError]:
        return {}

    def _compose(self, mask: int) -> Composed:
        chosen = {*self.names(mask), *self.present}
        inside = [step for step in self.steps[1:] if step.name in chosen]
        values: dict[str, Any] = {}
        design: dict[str, Any] = {}
        options = dict(self.steps[0].composed.choices)
        for step in inside:
            patch = self._patches[step.name]
            values |= patch.values
            design |= patch.design
            options |= patch.options
        named = [(step, words) for step in self.steps if (words := self._overrides(step, inside, options))]
        if 2 * len(inside) > len(self.steps):
            named.reverse()
        # the step with the fewest words beside it, of equals the path's nearer end
        origin, overrides = min(named, key=lambda pair: self._variant(pair[0], pair[1], options).count(" "))
        if not self._independent:
            return compose(overrides, self.config_dirs)
        values |= {"step": origin.composed.step_option, "design": design}
        return derived(self.steps[0].composed, values, options, overrides, self._variant(origin, overrides, options))

    def _variant(self, origin: Step, overrides: Sequence[str], options: Mapping[str, str]) -> str:
        return variant_name(origin.composed.step_option, options, origin.composed.plain, overrides)

    def _overrides(self, origin: Step, inside: Sequence[Step], options: Mapping[str, str]) -> list[str] | None:
        """What makes a set out of ``origin``; None where the origin has set a value that no option takes back."""
        words = {key_of(word): word for word in origin.composed.overrides}
        wanted = {key_of(word): word for step in inside for word in self._free[step.name]}
        before = itertools.takewhile(lambda name: name != origin.name, self._free)
        if any(key_of(word) not in wanted for name in (*before, origin.name) for word in self._free[name]):
            return None
        groups = {
            group: f"{group}={options[group]}" for group in TOGGLES if options[group] != origin.composed.choices[group]
        }
        return [*(words | groups | wanted).values()]

    @cached_property
    def _free(self) -> dict[str, list[str]]:
        return {step.name: _free_words(step) if number else [] for number, step in enumerate(self.steps)}

    @cached_property
    def _patches(self) -> dict[str, "Patch"]:
        return {
            step.name: Patch.between(before.composed, step.composed.asked_values, step.composed.choices)
            for before, step in zip(self.steps, self.steps[1:], strict=False)
        }

    @cached_property
    def _independent(self) -> bool:
        """Whether each change sets the same whatever others are there, so that Hydra need not compose every set.

        So it is where all but one set fields of the design alone, and that one nothing that designs are made from.
        """
        wider = [patch.values for patch in self._patches.values() if patch.values]
        return len(wider) < 2 and not any("regime" in values for values in wider)


@dataclass(frozen=True)
class Patch:
    """What a step sets that the one before does not have: the design's fields, other values, options of groups."""

    design: Mapping[str, Any]
    values: Mapping[str, Any]
    options: Mapping[str, str]

    @classmethod
    def between(cls, before: Composed, values: Mapping[str, Any], choices: Mapping[str, str]) -> "Patch":
        """From a config to the values and options of another."""
        groups = {group: option for group, option in choices.items() if group in TOGGLES}
        return cls(
            {} if isinstance(before.asked, BaselineModel) else _changed(Record.to_dict(before.asked), values["design"]),
            {k: v for k, v in _changed(before.values, values).items() if k not in ("design", "step")},
            _changed(before.choices, groups),
        )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if before.get(key, ...) != value}


def _change(step: Step) -> Change:
    words = (*(f"{group}={option}" for group, option in step.changes.items()), *_free_words(step))
    return Change(step.name, step.label, step.section, words)


def _free_words(step: Step) -> list[str]:
    """The row's overrides of single values, which no group has as an option."""
    return [word for word in step.change if key_of(word) not in (*TOGGLES, "step")]
