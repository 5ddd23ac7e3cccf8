"""Nested records as flat ones."""

from collections.abc import Mapping
from typing import Any


def flatten_dict(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Entries of nested mappings by dotted keys; lists stay, and so does an empty mapping."""
    entries: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        entries |= flatten_dict(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return entries
