"""What msgspec refuses of a record, in sentences: what is wrong, where, and what is accepted."""

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import FileRecord, PositiveInt, Probability, Record, converted


class Inner(Record):
    rate: Annotated[float, Meta(gt=0)]
    range: tuple[Probability, Probability] = (0.0, 1.0)


class Outer(Record):
    place = "outer"

    kind: Literal["a", "b"]
    count: PositiveInt
    inner: Inner | None
    words: tuple[str, ...] = ()
    flag: bool = False
    mode: Literal["x", "y"] | None = None
    options: dict[str, float] | None = None
    either: str | tuple[str, ...] = "all"

    def __post_init__(self) -> None:
        if self.count == 13:
            raise RequestError("outer.count must not be 13")


WHOLE = {"kind": "a", "count": 1, "inner": {"rate": 1}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"foo": 1}, "unknown key outer.foo (choose kind, count, inner, words, flag, mode, options or either)"),
        ({"inner": {"rate": 1, "foo": 1}}, "unknown key outer.inner.foo (choose rate or range)"),
        ({"inner": {}}, "outer.inner.rate is missing"),
        ({"kind": "???"}, "outer.kind is not set (add outer.kind=…)"),
        ({"inner": {"rate": "???"}}, "outer.inner.rate is not set (add outer.inner.rate=…)"),
        ({"kind": "c"}, "unknown outer.kind 'c' (choose a or b)"),
        ({"mode": "z"}, "unknown outer.mode 'z' (choose x, y or null)"),
        ({"count": 0}, "outer.count must be at least 1 (got 0)"),
        ({"count": True}, "outer.count must be an integer (got true)"),
        ({"count": 13}, "outer.count must not be 13"),
        ({"inner": 3}, "outer.inner must be a mapping or null (got 3)"),
        ({"inner": {"rate": 0}}, "outer.inner.rate must be above 0 (got 0)"),
        ({"inner": {"rate": float("nan")}}, "outer.inner.rate must be above 0 (got nan)"),
        ({"inner": {"rate": 1, "range": [0, 2]}}, "outer.inner.range[1] must be at most 1 (got 2)"),
        ({"inner": {"rate": 1, "range": [0]}}, "outer.inner.range must be a list of length 2 (got [0])"),
        ({"words": "x"}, "outer.words must be a list (got 'x')"),
        ({"words": ["x", 3]}, "outer.words[1] must be a string (got 3)"),
        ({"flag": 1}, "outer.flag must be true or false (got 1)"),
        ({"options": {"a": "x"}}, "values of outer.options must be a number (got {'a': 'x'})"),
        ({"options": {1: 2.0}}, "keys of outer.options must be a string (got {1: 2.0})"),
        ({"either": 3}, "outer.either must be a string or a list (got 3)"),
        ({"either": ["a", 3]}, "outer.either[1] must be a string (got 3)"),
    ],
)
def test_every_error_is_one_sentence(changes: dict[Any, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        Outer.from_mapping(WHOLE | changes)
    assert str(refused.value) == sentence


def test_a_missing_key_and_no_mapping_at_all() -> None:
    with pytest.raises(RequestError, match=r"^outer\.kind is missing$"):
        Outer.from_mapping({"count": 1, "inner": None})
    with pytest.raises(RequestError, match=r"^outer must be a mapping \(got 3\)$"):
        Outer.from_mapping(3)


def test_records_are_frozen_hashable_and_keyword_only() -> None:
    record = Outer.from_mapping(WHOLE | {"options": {}})
    assert record.inner is not None
    assert (record.inner.rate, type(record.inner.rate)) == (1.0, float)
    assert hash(record.inner) == hash(Inner(rate=1.0))
    assert record.to_dict() == WHOLE | {
        "inner": {"rate": 1.0, "range": [0.0, 1.0]},
        "words": [],
        "flag": False,
        "mode": None,
        "options": {},
        "either": "all",
    }
    with pytest.raises(AttributeError):
        record.count = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Inner(1.0)  # type: ignore[misc]


def test_a_changed_copy_is_checked() -> None:
    record = Outer.from_mapping(WHOLE)
    assert record.replace(count=2).count == 2
    with pytest.raises(RequestError, match=r"^outer\.count must be at least 1 \(got 0\)$"):
        record.replace(count=0)


class File(FileRecord):
    name: str
    schema: int = 1


def test_files_of_newer_versions_may_hold_more() -> None:
    assert converted({"name": "a", "more": 1, "schema": 9}, File).name == "a"
    assert converted({"name": "a"}, File).schema == 1
    with pytest.raises(ValueError, match=r"^name is missing$"):
        converted({}, File)
