"""Reading JSON and YAML that somebody else may have written or damaged: plain values only, nothing is executed.

Functions raise ValueError; the caller's error names the file.
"""

import json
from typing import Any

import msgspec


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, for an error that names the file."""
    return str(error.strerror if isinstance(error, OSError) else error)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Infinite numbers and lone surrogates are refused; NaN is accepted."""
    try:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            # Python's parser takes NaN, which Python's writer produces for a loss that is not a number
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
    """Return the plain value of a YAML text. Aliases are refused, since they can grow without bound."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it holds an alias (*name)")
        return yaml.load(text, loader)  # a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
