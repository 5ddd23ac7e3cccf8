"""Flattening nested dictionaries."""

from collections.abc import Mapping
from typing import Any


def flatten_dict(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested mappings under dotted keys; lists and empty mappings are kept as values."""
    entries: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        entries |= flatten_dict(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return entries
