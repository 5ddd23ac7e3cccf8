"""Frozen dataclasses that check themselves: what a composed config becomes before anything is built from it."""

import dataclasses
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from roadmap.errors import RequestError


class Checked:
    """Base of the config's dataclasses: every field must fit its annotation, in Python as from a config file.

    Understood annotations: int, float, bool, str, Literal, tuples, another Checked class, and each of them or None.
    ``place`` is the name of the node in the config, empty at its top; messages are about ``place.field``.
    """

    place: ClassVar[str]

    @classmethod
    def key(cls, field: str) -> str:
        """The field's full key in the config."""
        return f"{cls.place}.{field}" if cls.place else field

    def __post_init__(self) -> None:
        for name, annotation in _hints(type(self)).items():  # type: ignore[arg-type]
            object.__setattr__(self, name, _fitted(getattr(self, name), annotation, self.key(name)))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The record of a config node; RequestError names an unknown key, a missing one, or a value that does not fit.

        A key with a default may be left out.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if not isinstance(mapping, Mapping):
            raise RequestError(
                f"{cls.place}={mapping!r} does not fit: it wants settings, as {cls.key(next(iter(fields)))}=…"
            )
        unknown = [key for key in mapping if key not in fields]
        if unknown:
            raise RequestError(f"unknown key {cls.key(unknown[0])}; choose {listed(fields)}")
        for name, field in fields.items():
            # ??? is OmegaConf's mark of a value that the user must give
            if mapping.get(name) == "???" or (name not in mapping and field.default is dataclasses.MISSING):
                raise RequestError(f"{cls.key(name)} is not set; add {cls.key(name)}=…")
        return cls(**mapping)

    @classmethod
    def fitted(cls, field: str, value: Any) -> Any:
        """A value as the field would hold it; RequestError where it does not fit the field's annotation."""
        return _fitted(value, _hints(cls)[field], cls.key(field))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are logged and hashed: nested records as dicts, tuples as lists."""
        return _plain(dataclasses.asdict(self))  # type: ignore[call-overload]


def listed(names: Iterable[Any]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    *head, last = [str(name) for name in names]
    return f"{', '.join(head)} or {last}" if head else last


@cache
def _hints(record: type[Any]) -> dict[str, Any]:
    """The annotations of a record's fields; thousands of records are made of each class."""
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _fitted(value: Any, annotation: Any, place: str) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        if value is None or isinstance(value, tuple(kind for kind in get_args(annotation) if _is_record(kind))):
            return value
        annotation = next(option for option in get_args(annotation) if option is not type(None))
    if get_origin(annotation) is Literal:
        if value not in get_args(annotation):
            raise RequestError(f"unknown {place} {value!r}; choose {listed(get_args(annotation))}")
        return value
    if get_origin(annotation) is tuple and isinstance(value, list | tuple):
        return _elements(value, get_args(annotation), place)
    if _is_record(annotation) and isinstance(value, Mapping):
        return annotation.from_mapping(value)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise RequestError(
                f"{place}={str(value)[:20]}… does not fit: it wants a number that a float holds"
            ) from error
    # bool is an int to Python, but not to the reader of `epochs=true`
    if not isinstance(annotation, type) or not isinstance(value, annotation) or (annotation is int and value is True):
        raise RequestError(f"{place}={value!r} does not fit: it wants {_described(annotation)}")
    return value


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Checked)


def _elements(values: Any, annotations: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    if annotations[-1] is Ellipsis:
        annotations = (annotations[0],) * len(values)
    if len(values) != len(annotations):
        raise RequestError(f"{place}={list(values)} has {len(values)} values; it wants {len(annotations)}")
    return tuple(_fitted(value, kind, place) for value, kind in zip(values, annotations, strict=True))


def _described(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", dict: "{key: value}"}
    return names.get(annotation, "a list" if get_origin(annotation) is tuple else str(annotation))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
