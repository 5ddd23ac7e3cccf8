"""Every subset of a path's changes: its config, whether it is feasible, its cost, and the logged runs that have it."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from roadmap.config.build import network_cost
from roadmap.config.compose import Composed, compose
from roadmap.config.overrides import TOGGLES, key_of
from roadmap.config.patches import Patch, patched
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.runs.identity import step_key
from roadmap.steps.path import Step

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.statistics.gaps import Sample

MOST_CHANGES = 16  # 65,536 subsets, which take half a minute to compose


@dataclass(frozen=True)
class ChangeSubsets:
    """The configs of all subsets of changes; bit i of a subset's mask stands for ``changes[i]``.

    A subset is the path's first row with its changes in the path's order, so it is one design and recipe. It is not
    feasible if its options exclude each other.
    """

    changes: tuple[Step, ...]
    steps: tuple[Step, ...]  # the adopted ones
    present: frozenset[str]  # other changes of the path that every subset has
    config_dirs: tuple[str, ...] = ()
    _points: dict[int, Composed | RequestError] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        steps: Sequence[Step],
        names: Sequence[str] | None = None,
        keep_others: bool = False,
        config_dirs: Sequence[str] = (),
    ) -> "ChangeSubsets":
        """Return the subsets of a path's changes, or of those in ``names``, with or without the path's other changes.

        A change without effect, because an override on the command line sets the same, is excluded. Raises RequestError
        for an unknown name and if no change remains.
        """
        adopted = tuple(step for step in steps if step.adopted)
        real = {step.name: step for step in adopted[1:] if step.changes or _single_values(step)}
        for name in names or ():
            if name not in real:
                raise RequestError(f"unknown change '{name}' in study.changes (choose {listed(real)})")
        changes = tuple(step for step in real.values() if names is None or step.name in names)
        if not changes:
            raise RequestError("path without changes; it must have an adopted row that differs from the first")
        present = frozenset(real) - {step.name for step in changes} if keep_others else frozenset()
        return cls(changes, adopted, present, tuple(config_dirs))

    @property
    def full(self) -> int:
        """The mask of all changes."""
        return 2 ** len(self.changes) - 1

    def mask(self, names: Iterable[str]) -> int:
        """Return the mask of the named changes. Raises RequestError for an unknown name."""
        return sum(1 << place for place in set(self.places(names)))

    def places(self, names: Iterable[str]) -> list[int]:
        """Return the index of each named change. Raises RequestError for an unknown name."""
        known = {step.name: place for place, step in enumerate(self.changes)}
        try:
            return [known[name] for name in names]
        except KeyError as error:
            raise RequestError(f"unknown change '{error.args[0]}' (choose {listed(known)})") from error

    def names(self, mask: int) -> list[str]:
        """Return the changes of a subset, in the path's order."""
        return [step.name for place, step in enumerate(self.changes) if mask >> place & 1]

    def feasible(self, mask: int) -> bool:
        """Return whether the subset's options are compatible."""
        try:
            self.point(mask)
        except RequestError:
            return False
        return True

    def masks(self) -> list[int]:
        """Return all feasible subsets in ascending order."""
        return [mask for mask in range(self.full + 1) if self.feasible(mask)]

    def without(self, name: str) -> int:
        """Return all changes without one, and without the fewest others that depend on it."""
        return self.full ^ self._smallest(name, lambda extra: self.feasible(self.full ^ extra))

    def alone(self, name: str) -> int:
        """Return one change with the fewest others that it depends on."""
        return self._smallest(name, self.feasible)

    def _smallest(self, name: str, fits: Callable[[int], bool]) -> int:
        own = self.mask([name])
        rest = [1 << place for place in range(len(self.changes)) if not own >> place & 1]
        sums = (own | sum(others) for count in range(len(rest) + 1) for others in itertools.combinations(rest, count))
        return next(mask for mask in sums if fits(mask))

    def point(self, mask: int) -> Composed:
        """Return a subset's config. Raises RequestError, naming the subset, if its options exclude each other."""
        if mask not in self._points:
            try:
                self._points[mask] = self._compose(mask)
            except RequestError as error:
                self._points[mask] = RequestError(f"{' + '.join(self.names(mask)) or 'no change'}: {error}")
        point = self._points[mask]
        if isinstance(point, RequestError):
            raise point
        return point

    def _compose(self, mask: int) -> Composed:
        """Compose a subset, named from the step with the fewest other toggles; ties go to the nearer end of the path.

        A step is out of the question if it sets a single value, which no option reverts, that the subset does not have.
        """
        first = self.steps[0].composed
        chosen = {*self.names(mask), *self.present}
        inside = [step for step in self.steps[1:] if step.name in chosen]
        patches = [self._patches[step.name] for step in inside]
        options = dict(first.choices)
        for patch in patches:
            options |= patch.options
        values = {key_of(word): word for step in inside for word in _single_values(step)}
        origins = [step.composed for step in self.steps if self._values_before[step.name] <= values.keys()]
        if 2 * len(inside) > len(self.steps):
            origins.reverse()
        toggles = [{group for group in TOGGLES if options[group] != origin.choices[group]} for origin in origins]
        origin, others = min(zip(origins, toggles, strict=True), key=lambda pair: len(pair[1]))
        words = {key_of(word): word for word in origin.overrides}
        words |= {group: f"{group}={options[group]}" for group in TOGGLES if group in others}
        overrides = [*(words | values).values()]
        return patched(first, patches, overrides) if self._independent else compose(overrides, self.config_dirs)

    @cached_property
    def _values_before(self) -> dict[str, set[str]]:
        """The keys of the single values that each step and the changes before it set."""
        found, keys = {self.steps[0].name: set[str]()}, set[str]()
        for step in self.steps[1:]:
            keys = found[step.name] = keys | set(map(key_of, _single_values(step)))
        return found

    @cached_property
    def _patches(self) -> dict[str, Patch]:
        return {
            step.name: Patch.between(before.composed, step.composed.values, step.composed.choices)
            for before, step in itertools.pairwise(self.steps)
        }

    @cached_property
    def _independent(self) -> bool:
        """Whether each change sets the same values in every subset, so that patches, which are fast, replace Hydra.

        True if all but one set only fields of the design, and that one does not set the regime.
        """
        wider = [patch.values for patch in self._patches.values() if patch.values]
        return len(wider) < 2 and not any("regime" in values for values in wider)


def _single_values(step: Step) -> list[str]:
    """Return the row's overrides of single values, which are no option of a group."""
    return [word for word in step.change if key_of(word) not in (*TOGGLES, "step")]


@dataclass(frozen=True)
class SubsetTable:
    """The subsets of n changes as arrays (2**n,), indexed by mask.

    ``same`` holds the first subset with the same design and recipe, which differs if a change has no effect next to
    others. ``gmacs`` (×10⁹) and ``params_m`` (×10⁶) are NaN if a subset is not ``feasible``. ``keys`` maps design and
    recipe to their first subset. ``pairs`` has for ``loo`` (leave-one-out) and ``aoi`` (add-one-in) the subsets with
    and without each change.
    """

    subsets: ChangeSubsets
    feasible: np.ndarray
    same: np.ndarray
    gmacs: np.ndarray
    params_m: np.ndarray
    keys: Mapping[bytes, int]
    pairs: Mapping[str, list[tuple[int, int]]]

    @classmethod
    def of(cls, subsets: ChangeSubsets) -> "SubsetTable":
        """Return the table of all subsets. Raises RequestError for too many changes."""
        names = subsets.names(subsets.full)
        if len(names) > MOST_CHANGES:
            raise RequestError(
                f"{len(names)} changes have 2^{len(names)} subsets, too many to enumerate; "
                f"choose up to {MOST_CHANGES} with study=orders study.changes=[…]"
            )
        size = 2 ** len(names)
        feasible, same = np.zeros(size, bool), np.arange(size)
        gmacs, params_m = np.full(size, np.nan), np.full(size, np.nan)
        keys: dict[bytes, int] = {}
        recipes: dict[Any, dict[str, Any]] = {}
        for mask in subsets.masks():
            point = subsets.point(mask)
            if point.recipe not in recipes:
                recipes[point.recipe] = point.experiment().definition["recipe"]
            same[mask] = keys.setdefault(step_key(point.design.to_dict(), recipes[point.recipe]), mask)
            cost = network_cost(point)
            feasible[mask], gmacs[mask], params_m[mask] = True, cost.gmacs, cost.params_m
        loo = [(subsets.full, subsets.without(name)) for name in names]
        aoi = [(subsets.alone(name), 0) for name in names]
        return cls(subsets, feasible, same, gmacs, params_m, keys, {"loo": loo, "aoi": aoi})

    @property
    def names(self) -> list[str]:
        """The changes' names, in the path's order."""
        return self.subsets.names(self.subsets.full)

    def of_runs(self, runs: "pd.DataFrame") -> list[int | None]:
        """Return the first subset with each run's design and recipe, regardless of its name; None if there is none."""
        return [self.keys.get(step_key(each.get("design"), each.get("recipe"))) for each in runs["definition"]]

    def samples(self, runs: "pd.DataFrame") -> "dict[int, Sample]":
        """Return subset → seed → top-1 after the last epoch of finished runs."""
        found: dict[int, dict[int, float]] = {}
        for mask, seed, top1 in zip(self.of_runs(runs), runs["seed"], runs["top1"], strict=True):
            if mask is not None:
                found.setdefault(mask, {})[int(seed)] = top1
        return dict(found)


def beginnings(order: Sequence[int]) -> list[int]:
    """Return the subsets along an order of the changes' indices, from none to all."""
    return list(itertools.accumulate((1 << place for place in order), initial=0))
