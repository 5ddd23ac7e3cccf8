"""A path's file as rows: a trunk of adopted changes with branches that were tried, not adopted; without Hydra."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, ClassVar

import yaml

from roadmap.config import config_dir
from roadmap.validation import Record


class PathRow(Record):
    """One row of a path's file: overrides on top of those of the adopted rows above it."""

    change: tuple[str, ...]
    name: str | None = None  # None: the step's name, or the change itself
    label: str | None = None  # None: the name
    section: str = ""
    adopted: bool = True

    @property
    def title(self) -> str:
        return self.name or "+".join(change.removeprefix("step=") for change in self.change)


class PathFile(Record):
    """A path: its rows in order, and the baseline models to compare with its last adopted step."""

    place: ClassVar[str] = "path"

    name: str
    steps: tuple[PathRow, ...]
    baselines: tuple[str, ...] | None = None

    @classmethod
    def of(cls, node: Any) -> "PathFile":
        """Return the path of the config's node ``path``. A row may be its change alone, and a change one override."""
        if isinstance(node, dict) and isinstance(node.get("steps"), list):
            node = node | {"steps": [_full_row(entry) for entry in node["steps"]]}
        return cls.from_mapping(node)


def _full_row(entry: Any) -> dict[Any, Any]:
    fields = entry if isinstance(entry, dict) else {"change": entry}
    change = fields.get("change")
    return fields | ({"change": [change]} if isinstance(change, str) else {})


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
