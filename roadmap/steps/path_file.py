"""A path's file as rows: a trunk of adopted changes with branches that were tried, not adopted. Knows no Hydra."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, ClassVar

import yaml

from roadmap.config import config_dir
from roadmap.errors import RequestError
from roadmap.validation import Record, shown


class PathRow(Record):
    """One row of a path's file: overrides that come on top of the adopted rows above it."""

    place: ClassVar[str] = "path.steps"

    change: tuple[str, ...]
    name: str | None = None  # None: the step's name, or the change itself
    label: str | None = None  # None: the name
    section: str = ""
    adopted: bool = True

    @classmethod
    def from_entry(cls, entry: Any) -> "PathRow":
        """An entry of the file: a mapping, or the change alone; one override needs no list."""
        fields = entry if isinstance(entry, dict) else {"change": entry}
        change = fields.get("change")
        return cls.from_mapping(fields | ({"change": [change]} if isinstance(change, str) else {}))

    @property
    def title(self) -> str:
        """What its step is called."""
        return self.name or "+".join(change.removeprefix("step=") for change in self.change)


class PathFile(Record):
    """A path: its rows in order, and the baseline models to compare with its last adopted step."""

    place: ClassVar[str] = "path"

    name: str
    steps: tuple[PathRow, ...]
    baselines: tuple[str, ...] | None = None

    @classmethod
    def of(cls, node: Any) -> "PathFile":
        """The config's node ``path``. Raises RequestError where a part is missing, or no part of a path."""
        if not isinstance(node, dict):
            raise RequestError(f"path must have name and steps, as conf/path/paper.yaml has (got {shown(node)})")
        steps = node.get("steps")
        entries = [PathRow.from_entry(entry) for entry in steps] if isinstance(steps, list) else steps
        return cls.from_mapping(node | ({"steps": entries} if "steps" in node else {}))


def with_parents(rows: Iterable[PathRow]) -> Iterator[tuple[PathRow, PathRow | None]]:
    """Each row with the one it changes: the last adopted row above it; None for the first."""
    parent = None
    for row in rows:
        yield row, parent
        if row.adopted:
            parent = row


@cache
def paper_parents() -> dict[str, str | None]:
    """The steps of the paper's path in order, each with its parent's name."""
    path = yaml.safe_load((config_dir() / "path" / "paper.yaml").read_text(encoding="utf-8"))
    return {row.title: parent.title if parent else None for row, parent in with_parents(PathFile.of(path).steps)}
