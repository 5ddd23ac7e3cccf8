"""Base classes of records checked by msgspec, and its errors as sentences: what is wrong, where, what is accepted."""

import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, dataclass_transform

import msgspec
from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.formatting import listed

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # fits a table's column
Fraction = Annotated[float, Meta(gt=0, le=1)]

SCHEMA = 2  # version of the files written now


@dataclass_transform(kw_only_default=True, frozen_default=True)
class RecordMeta(msgspec.StructMeta):
    """Makes every record frozen and keyword-only."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: bool) -> "RecordMeta":
        defaults = {"frozen": True, "kw_only": True}
        return super().__new__(mcls, name, bases, namespace, **defaults | options)  # type: ignore[arg-type]


class Record(msgspec.Struct, metaclass=RecordMeta, forbid_unknown_fields=True):
    """Base class of the config's records: frozen, hashable, and checked when made from a mapping.

    Annotations declare types and ranges; ``__post_init__`` raises RequestError for fields that exclude each other.
    ``place`` is the record's node in the config, empty at the top level.
    """

    place: ClassVar[str] = ""

    @classmethod
    def full_key(cls, field: str) -> str:
        """Return the field's full key in the config."""
        return f"{cls.place}.{field}".lstrip(".")

    @classmethod
    def from_mapping(cls, mapping: Any) -> Self:
        """Return the record of a config node. Raises RequestError for unknown or missing keys and invalid values."""
        _refuse_unset(mapping, cls.place)
        return converted(mapping, cls, cls.place)

    @classmethod
    def check_field(cls, name: str, value: Any) -> Any:
        """Return a value as one of the record's fields holds it. Raises RequestError."""
        (kind,) = (field.type for field in msgspec.structs.fields(cls) if field.name == name)
        return converted(value, kind, cls.full_key(name))

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some fields changed. Raises RequestError."""
        return self.from_mapping(msgspec.structs.asdict(self) | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as logged and hashed: nested records as dicts, tuples as lists."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain


class FileRecord(Record, forbid_unknown_fields=False):
    """Base class of records read from files: unknown fields, which newer versions may write, are ignored.

    A file record declares ``schema: Int64 = 1``, the version of its format; the oldest files do not name it.
    """


def converted(value: Any, kind: Any, place: str = "") -> Any:
    """Return a plain value converted to ``kind``. Raises RequestError, which names the key below ``place``."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RequestError(sentence(error, value, kind, place)) from error
    except RecursionError as error:
        raise RequestError(f"{place} is nested too deep") from error


def sentence(error: msgspec.ValidationError, value: Any, kind: Any, place: str = "") -> str:
    """Return a msgspec error as a sentence with the key, the value and what is accepted."""
    if isinstance(error.__cause__, ValueError):  # raised by a __post_init__
        return str(error.__cause__)
    reason, _, path = str(error).partition(" - at `")
    info, where = msgspec.inspect.type_info(kind), place
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path.partition("$")[2]):
        if name:
            (info,) = (field.type for field in _only(info, value).fields if field.name == name)
            where = f"{where}.{name}".lstrip(".")
        else:
            info = _item(_only(info, value), int(index))
            where = f"{where}[{index}]"
        value = value[name or int(index)]
    if path.startswith("key"):
        return f"keys of {where or 'the record'} must be strings"
    if path.endswith("[...]`"):
        return f"values of {where} must be {_described(_only(info, value).value_type)}"
    if named := re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", reason, re.DOTALL):
        key = f"{where}.{named[2]}".lstrip(".")
        if named[1] == "missing required":
            return f"{key} is missing"
        return f"unknown key {key} (choose {listed(field.name for field in _only(info, value).fields)})"
    return _refusal(where or "the record", value, info)


def _refuse_unset(value: Any, place: str) -> None:
    """Raise RequestError for ???, OmegaConf's mark of a value that must be set."""
    if value == "???":
        raise RequestError(f"{place} is not set (add {place}=…)")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _refuse_unset(entry, f"{place}.{key}".lstrip("."))


def _only(info: Any, value: Any) -> Any:
    """Return the member of a union that the value is meant for."""
    inspect = msgspec.inspect
    if not isinstance(info, inspect.UnionType):
        return info
    kinds = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
    if isinstance(value, list | tuple):
        arrays = inspect.TupleType, inspect.VarTupleType, inspect.ListType
        kinds.sort(key=lambda kind: not isinstance(kind, arrays))
    return kinds[0]


def _item(info: Any, index: int) -> Any:
    return info.item_types[index] if isinstance(info, msgspec.inspect.TupleType) else info.item_type


def _refusal(where: str, value: Any, info: Any) -> str:
    """Return a sentence for a value of the wrong type or out of range."""
    inspect, kind = msgspec.inspect, _only(info, value)
    nullable = isinstance(info, inspect.UnionType) and info.includes_none
    got = f"(got {shown(value)})"
    if isinstance(kind, inspect.LiteralType):
        return f"unknown {where} {shown(value)} (choose {listed([*kind.values, *['null'] * nullable])})"
    if isinstance(kind, inspect.FloatType) and type(value) is int and abs(value) > sys.float_info.max:
        return f"{where} must be a number that fits a float {got}"
    number = type(value) is int or (isinstance(kind, inspect.FloatType) and type(value) is float)
    if number and (limits := _limits(kind)):
        return f"{where} must be {limits} {got}"
    if isinstance(value, list | tuple):
        if isinstance(kind, inspect.TupleType):
            return f"{where} must have {len(kind.item_types)} values (got {len(value)})"
        if isinstance(kind, inspect.VarTupleType | inspect.ListType):
            return f"{where} must not be empty"
    accepted = [_described(one) for one in (info.types if isinstance(info, inspect.UnionType) else [info])]
    return f"{where} must be {listed(accepted)} {got}"


def _limits(kind: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
    bounds = {word: getattr(kind, key, None) for key, word in words.items()}
    stated = {word: bound for word, bound in bounds.items() if bound is not None and abs(bound) < 2**62}
    return " and ".join(f"{word} {bound:.15g}" for word, bound in stated.items())


def _described(kind: Any) -> str:
    inspect = msgspec.inspect
    names: dict[type, str] = {
        inspect.IntType: "an integer",
        inspect.FloatType: "a number",
        inspect.BoolType: "true or false",
        inspect.StrType: "a string",
        inspect.NoneType: "null",
        inspect.DictType: "a mapping",
        inspect.StructType: "a mapping",
    }
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return f"a list of {_described(kind.item_type).removeprefix('an ').removeprefix('a ')}s"
    name = names.get(type(kind), "a list")
    return f"{name} {limits}" if (limits := _limits(kind)) else name


def shown(value: Any) -> str:
    """Return a value as written in a config file, shortened."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
