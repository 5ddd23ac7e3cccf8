"""Hostile YAML and JSON: deep nesting, aliases, tags, and numbers out of range."""

import math

import pytest

from roadmap.untrusted_io import parse_json, parse_yaml


def test_too_deep_nesting_is_refused() -> None:
    for parse in (parse_json, parse_yaml):
        assert parse("[[[1]]]") == [[[1]]]  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"too deep|maximum nesting depth"):
            parse("[" * 100_000 + "]" * 100_000)  # type: ignore[operator]


def test_yaml_aliases_and_tags_are_refused() -> None:
    assert parse_yaml("a: [1, x]\nb: null\n") == {"a": [1, "x"], "b": None}
    for text in ("a: &a [*a]\n", "a: &a [1]\nb: *a\n", "a: !!python/object/apply:os.getcwd []\n", "a: [\n"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_yaml(text)


def test_json_accepts_nan_but_no_infinity_or_lone_surrogates() -> None:
    assert math.isnan(parse_json('{"loss": NaN}')["loss"])
    for text in ("[Infinity]", "[-Infinity]", "[1e999]", '["\\ud800"]', b'["\xff"]', "", "{"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_json(text)
