"""The roadmap as rows: a trunk of adopted changes with branches that were tried and left again."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from roadmap.checked import Checked
from roadmap.config import TOGGLES, Composed, compose
from roadmap.design import AXES
from roadmap.errors import RequestError


@dataclass(frozen=True)
class Row(Checked):
    """One row of a path's file: overrides that come on top of the adopted rows above it."""

    place = "path.steps"

    change: tuple[str, ...]
    name: str | None = None  # None: the step's name, or the change itself
    label: str | None = None  # None: the name
    section: str = ""
    adopted: bool = True

    @classmethod
    def from_entry(cls, entry: Any) -> "Row":
        """An entry of the file: a mapping, or the change alone; one override needs no list."""
        fields = entry if isinstance(entry, dict) else {"change": entry}
        change = fields.get("change")
        return cls.from_mapping(fields | ({"change": [change]} if isinstance(change, str) else {}))


@dataclass(frozen=True)
class Step:
    """A row composed: ``changes`` is what differs from ``parent``, the last adopted row above it."""

    name: str
    label: str
    section: str
    adopted: bool
    parent: str | None
    changes: dict[str, str]  # config group -> option
    composed: Composed


def compose_path(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> list[Step]:
    """Every step of the path that ``overrides`` choose, in order; the overrides win over each row.

    Raises RequestError, naming the row, where one does not compose or asks for options that do not go together.
    """
    with _no_garbage_collection():
        return _compose_rows(overrides, config_dirs)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Composing makes so many small objects that Python would search all of torch's for garbage again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compose_rows(overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Step]:
    path = compose(overrides, config_dirs).values["path"]
    rows = [Row.from_entry(entry) for entry in path["steps"]]
    if not rows:
        raise RequestError(f"path {path['name']} has no steps")
    chosen = _by_key(overrides)
    trunk: dict[str, str] = {}
    parent: Step | None = None
    steps: list[Step] = []
    for row in rows:
        state = trunk | _by_key(row.change)
        step = _compose_row(row, [*(state | chosen).values()], parent, config_dirs)
        if any(step.name == other.name for other in steps):
            raise RequestError(f"path {path['name']} has two steps named '{step.name}'; give one a name of its own")
        steps.append(step)
        if row.adopted:
            trunk, parent = state, step
    return steps


def _compose_row(row: Row, overrides: list[str], parent: Step | None, config_dirs: Sequence[str]) -> Step:
    name = row.name or "+".join(change.removeprefix("step=") for change in row.change)
    try:
        composed = compose(overrides, config_dirs)
        changes = {} if parent is None else differences(parent.composed, composed)
    except RequestError as error:
        raise RequestError(f"step {name}: {error}") from error
    label = row.label or name
    return Step(name, label, row.section, row.adopted, parent.name if parent else None, changes, composed)


def differences(before: Composed, after: Composed) -> dict[str, str]:
    """Config group -> option, for each group in which the designs or recipes of two configs really differ."""
    return {
        group: after.choices[group]
        for group in TOGGLES
        if before.choices[group] != after.choices[group] and _value(before, group) != _value(after, group)
    }


def _value(composed: Composed, group: str) -> object:
    if group == "size":
        return composed.design.depths, composed.design.width
    return getattr(composed.design, AXES[group]) if group in AXES else composed.recipe


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by what they set, so that a later one takes an earlier one's place."""
    return {override.lstrip("+").partition("=")[0]: override for override in overrides}
