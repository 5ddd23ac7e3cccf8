"""Reading of files that others may have written or damaged: JSON and YAML as plain values, never more.

Everything raises ValueError, whose message goes into a sentence that names the file.
"""

import json
from typing import Any

import msgspec


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, for a sentence that names it already."""
    return str(error.strerror if isinstance(error, OSError) else error)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; it holds no infinite number, and none of its strings half a character."""
    try:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            # Python's own parser takes NaN, which Python's own writer makes of a loss that is none
            value = json.loads(text, parse_constant=_finite, parse_float=_finite)
            json.dumps(value, ensure_ascii=False).encode()
            return value
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), -float("inf")):
        raise ValueError(f"the number {text[:20]} is out of range")
    return number


def parse_yaml(text: str) -> Any:
    """The value of a YAML text: plain values, none of them twice by an alias, as our configs are written."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it holds an alias (*name)")
        return yaml.load(text, loader)  # a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
