"""What others may have written: nested without end, holding itself, or with fields of other kinds."""

from typing import Any

import pytest

from roadmap.foreign import Kind, check_fields, parse_json, parse_yaml


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


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("a number", [1, 1.5, float("nan"), -3], [True, "1", [], {}, float("inf"), 2**70]),
        ("a whole number", [0, -1, 2**40], [1.0, True, "1", 2**70]),
        ("a word", ["", "x"], [1, [], {}]),
        ("true or false", [True, False], [0, 1, "true"]),
        ("an object", [{}, {"a": None}], [[], "x", 1]),
        ("an object of numbers", [{}, {"a": 1}], [{"a": "x"}, {"a": None}, []]),
        ("a list of numbers", [[], [1, None, 2.5]], [["x"], [[1]], {}, 1]),
        ("a list of words", [[], ["x"]], [[1], [None], "x"]),
        ("a list of lists of words", [[], [[]], [["x"], ["y"]]], [["x"], [[1]], "x"]),
    ],
)
def test_fields_are_of_their_kind(kind: Kind, right: list[Any], wrong: list[Any]) -> None:
    for value in [*right, None]:
        check_fields({"a": value}, kind, ["a", "b"])
    for value in wrong:
        with pytest.raises(ValueError, match=f"^a is .*; it should be {kind}$"):
            check_fields({"a": value}, kind, ["a"])
    for record in ({"a": None}, {}):
        with pytest.raises(ValueError, match=r"^it has no a$"):
            check_fields(record, kind, ["a"], needed=True)


def test_a_long_value_is_not_told_in_full() -> None:
    with pytest.raises(ValueError, match="a is 'xxx") as refused:
        check_fields({"a": "x" * 10_000}, "a number", ["a"])
    assert len(str(refused.value)) < 120
