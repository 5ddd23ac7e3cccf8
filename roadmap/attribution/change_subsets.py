"""Every set of a path's changes as arrays: which are feasible, what each costs, and which logged runs are of which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from roadmap.comparison.statistics import Sample
from roadmap.errors import RequestError
from roadmap.gc_paused import gc_paused
from roadmap.runs.identity import step_key

Array = np.ndarray
MOST_CHANGES = 16  # 65,536 sets, which take half a minute to compose


class Change(Protocol):
    """What tables and pictures say of a change."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def section(self) -> str: ...


class Lattice(Protocol):
    """All sets of changes, each a mask whose bit i stands for ``changes[i]``; ``point`` is the config of one.

    ``without`` is the full set without a change and as few others as go with it, ``alone`` a change with as few as it
    needs.
    """

    @property
    def changes(self) -> Sequence[Change]: ...
    def masks(self) -> list[int]: ...
    def without(self, name: str) -> int: ...
    def alone(self, name: str) -> int: ...
    def point(self, mask: int) -> Any: ...


class Cost(Protocol):
    """MACs ×10⁹ of one image, and parameters ×10⁶."""

    @property
    def gmacs(self) -> float: ...
    @property
    def params_m(self) -> float: ...


@dataclass(frozen=True)
class Sets:
    """The sets of n changes, arrays (2**n,) by mask.

    ``same`` has for each set the first one of its design and recipe, which differs from it where a change does nothing
    beside others; ``gmacs`` ×10⁹ and ``params_m`` ×10⁶ are NaN where a set is not ``feasible``. ``keys`` finds the
    first set of a design and recipe. ``without`` and ``alone`` are each change's, as of ``Lattice``.
    """

    changes: tuple[Change, ...]
    feasible: Array
    same: Array
    gmacs: Array
    params_m: Array
    keys: Mapping[str, int]
    without: tuple[int, ...]
    alone: tuple[int, ...]

    @classmethod
    def of(cls, lattice: Lattice, cost: Callable[[Any], Cost]) -> "Sets":
        """The sets of a lattice, with ``cost`` of each one's config. Raises RequestError for too many changes."""
        if len(lattice.changes) > MOST_CHANGES:
            raise RequestError(
                f"{len(lattice.changes)} changes have 2^{len(lattice.changes)} sets, too many to go through; "
                f"choose up to {MOST_CHANGES} with study=orders study.changes=[…]"
            )
        size = 2 ** len(lattice.changes)
        feasible, same = np.zeros(size, bool), np.arange(size)
        gmacs, params_m = np.full(size, np.nan), np.full(size, np.nan)
        keys: dict[str, int] = {}
        recipes: dict[Any, dict[str, Any]] = {}
        with gc_paused():
            for mask in lattice.masks():
                point = lattice.point(mask)
                if point.recipe not in recipes:
                    recipes[point.recipe] = point.experiment().definition["recipe"]
                same[mask] = keys.setdefault(step_key(point.design.to_dict(), recipes[point.recipe]), mask)
                spent = cost(point)
                feasible[mask], gmacs[mask], params_m[mask] = True, spent.gmacs, spent.params_m
        changes = tuple(lattice.changes)
        without = tuple(lattice.without(change.name) for change in changes)
        alone = tuple(lattice.alone(change.name) for change in changes)
        return cls(changes, feasible, same, gmacs, params_m, keys, without, alone)

    @property
    def names(self) -> list[str]:
        """The changes' names, in the path's order."""
        return [change.name for change in self.changes]

    @property
    def full(self) -> int:
        """The set of all changes."""
        return len(self.feasible) - 1

    def named(self, mask: int) -> list[str]:
        """The names of the changes in a set."""
        return [name for place, name in enumerate(self.names) if mask >> place & 1]

    def path(self) -> list[int]:
        """The beginnings of the changes in the path's own order, from none to all."""
        return [2**size - 1 for size in range(len(self.changes) + 1)]

    def order(self, names: Sequence[str]) -> list[int] | None:
        """The changes' places in an order of their names; None for an order of others, or one that is not feasible."""
        if sorted(names) != sorted(self.names):
            return None
        places = [self.names.index(name) for name in names]
        return places if self.feasible[beginnings(places)].all() else None

    def of_runs(self, runs: pd.DataFrame) -> list[int | None]:
        """The first set of each run's design and recipe, whatever the run is called; None for a run of no set."""
        return [self.keys.get(step_key(each.get("design"), each.get("recipe"))) for each in runs["definition"]]

    def samples(self, runs: pd.DataFrame) -> Mapping[int, Sample]:
        """Set → seed → top-1 after the last epoch, of finished runs that all are of a set."""
        found: dict[int, dict[int, float]] = {}
        for mask, seed, top1 in zip(self.of_runs(runs), runs["seed"], runs["top1"], strict=True):
            if mask is not None:
                found.setdefault(mask, {})[int(seed)] = top1
        return found


def beginnings(order: Sequence[int]) -> list[int]:
    """The sets that an order of the changes' places leads through, from none to all."""
    return [0, *np.cumsum([1 << place for place in order]).tolist()]
