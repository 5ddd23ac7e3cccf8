"""Base classes of records checked by msgspec, and its errors as sentences: what is wrong, where, what is accepted."""

import re
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
# msgspec's words -> ours
TYPES = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a string", "array": "a list"}
TYPES |= {"object": "a mapping"}
LIMITS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


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
    def from_mapping(cls, mapping: Any) -> Self:
        """Return the record of a config node. Raises RequestError for unknown or missing keys and invalid values."""
        _refuse_unset(mapping, cls.place)
        return converted(mapping, cls, cls.place)

    @classmethod
    def check_field(cls, name: str, value: Any) -> Any:
        """Return a value as one of the record's fields holds it. Raises RequestError."""
        (kind,) = (field.type for field in msgspec.structs.fields(cls) if field.name == name)
        return converted(value, kind, f"{cls.place}.{name}".lstrip("."))

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
    reason, _, path = str(error).partition(" - at ")
    info, where = msgspec.inspect.type_info(kind), place
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        info, value = _inner(info, name, index), value[name or int(index)]
        where = f"{where}.{name}".lstrip(".") if name else f"{where}[{index}]"
    kinds = getattr(info, "types", (info,))
    if named := re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", reason, re.DOTALL):
        key = f"{where}.{named[2]}".lstrip(".")
        fields = [field.name for kind in kinds for field in getattr(kind, "fields", ())]
        return f"{key} is missing" if named[1] == "missing required" else f"unknown key {key} (choose {listed(fields)})"
    where = where or "the record"
    choices = [choice for kind in kinds for choice in getattr(kind, "values", ())]
    if reason.startswith("Invalid enum value"):
        choices += ["null" for kind in kinds if isinstance(kind, msgspec.inspect.NoneType)]
        choices += [word for kind in kinds if isinstance(kind, msgspec.inspect.BoolType) for word in ("true", "false")]
        return f"unknown {where} {shown(value)} (choose {listed(choices)})"
    of = "keys of " if path.startswith("`key`") else "values of " if "[...]" in path else ""
    found = re.match(r"Expected `([^`]+)`(?: ([^,]+))?", reason)
    if found is None:
        return f"{of}{where}: {reason.lower()} (got {shown(value)})"
    types = TYPES | {"str": listed(choices)} if choices and len(kinds) > 1 else TYPES
    accepted = listed(types.get(name, name) for name in found[1].split(" | "))
    limit = re.sub("|".join(LIMITS), lambda sign: LIMITS[sign[0]], (found[2] or "").removesuffix(".0"))
    accepted = f"{accepted} {limit}".rstrip() if not limit or found[1] == "array" else limit
    return f"{of}{where} must be {accepted} (got {shown(value)})"


def _inner(info: Any, name: str, index: str) -> Any:
    """Return the type of a field of a record, or of an item of a list."""
    for kind in getattr(info, "types", (info,)):
        if name and hasattr(kind, "fields"):
            return next(field.type for field in kind.fields if field.name == name)
        if index and hasattr(kind, "item_types"):
            return kind.item_types[int(index)]
        if index and hasattr(kind, "item_type"):
            return kind.item_type
    raise AssertionError(f"{info} has no {name or index}")


def _refuse_unset(value: Any, place: str) -> None:
    """Raise RequestError for ???, OmegaConf's mark of a value that must be set."""
    if value == "???":
        raise RequestError(f"{place} is not set (add {place}=…)")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _refuse_unset(entry, f"{place}.{key}".lstrip("."))


def shown(value: Any) -> str:
    """Return a value as written in a config file, shortened."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
