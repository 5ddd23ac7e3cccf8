"""What lies on disk and others may have written or damaged: JSON and YAML as plain values, fields of their kinds.

All of it raises ValueError for what is not as it should be, in words that go into a sentence.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

Kind = Literal[
    "a number",
    "a whole number",
    "a word",
    "true or false",
    "an object",
    "an object of numbers",
    "a list of numbers",
    "a list of words",
    "a list of lists of words",
]


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, for a sentence that names it already."""
    return str(error.strerror if isinstance(error, OSError) else error)


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON holds."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_yaml(text: str) -> Any:
    """What a text of YAML holds: plain values, none of them twice by an alias, as our configs are written."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it holds an alias (*name)")
        return yaml.load(text, loader)  # a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def check_fields(record: Mapping[str, Any], kind: Kind, names: Iterable[str], *, needed: bool = False) -> None:
    """Refuse a field that is not of its kind; one missing or null is nothing known, and right unless ``needed``."""
    fits = _KINDS[kind]
    for name in names:
        value = record.get(name)
        if value is None:
            if needed:
                raise ValueError(f"it has no {name}")
        elif not fits(value):
            raise ValueError(f"{name} is {_shortened(value)}; it should be {kind}")


def _is_number(value: Any) -> bool:
    # True is an int to Python; NaN is what Python's own writer makes of a loss that is none
    return (type(value) is float and abs(value) != float("inf")) or (type(value) is int and abs(value) < 2**63)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _are_words(value: Any) -> bool:
    return type(value) is list and all(type(word) is str for word in value)


_KINDS: dict[Kind, Callable[[Any], bool]] = {
    "a number": _is_number,
    "a whole number": _is_whole,
    "a word": lambda value: type(value) is str,
    "true or false": lambda value: type(value) is bool,
    "an object": lambda value: type(value) is dict,
    "an object of numbers": lambda value: type(value) is dict and all(map(_is_number, value.values())),
    "a list of numbers": lambda value: type(value) is list and all(v is None or _is_number(v) for v in value),
    "a list of words": _are_words,
    "a list of lists of words": lambda value: type(value) is list and all(map(_are_words, value)),
}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
