"""Files that others may have written: nested without end, holding themselves, or with numbers out of range."""

import math

import pytest

from roadmap.untrusted_io import parse_json, parse_yaml


def test_what_is_nested_too_deep_is_refused_as_any_other_damage() -> None:
    for parse in (parse_json, parse_yaml):
        assert parse("[[[1]]]") == [[[1]]]  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"too deep|maximum nesting depth"):
            parse("[" * 100_000 + "]" * 100_000)  # type: ignore[operator]


def test_yaml_holds_nothing_twice_and_nothing_that_is_made() -> None:
    assert parse_yaml("a: [1, x]\nb: null\n") == {"a": [1, "x"], "b": None}
    for text in ("a: &a [*a]\n", "a: &a [1]\nb: *a\n", "a: !!python/object/apply:os.getcwd []\n", "a: [\n"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_yaml(text)


def test_json_has_nan_but_no_infinity_and_no_half_characters() -> None:
    assert math.isnan(parse_json('{"loss": NaN}')["loss"])
    for text in ("[Infinity]", "[-Infinity]", "[1e999]", '["\\ud800"]', b'["\xff"]', "", "{"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_json(text)
