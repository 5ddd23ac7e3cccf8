"""Design spaces: ranges and choices of a design's fields, and random designs within a band of cost."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, get_type_hints

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.flops import count_flops
from roadmap.networks.rows import Cost
from roadmap.schema.design import Design
from roadmap.validation import PositiveInt, Record, converted

NUMBERS = [name for name, kind in get_type_hints(Design).items() if kind is int]
STAGES = 4
FEW = 20_000  # spaces of at most so many designs are enumerated
TRIES = 100  # draws per design from larger spaces, at least FEW in total, before the band is too narrow
Band = tuple[float | None, float | None]  # lowest and highest; None: unbounded


class Range(Record):
    """The integers ``low``, ``low + step``, … up to ``high``, drawn uniformly or log-uniformly."""

    low: PositiveInt
    high: PositiveInt
    step: PositiveInt = 1
    log: bool = False


@dataclass(frozen=True)
class Axis:
    """The values of a field, or of one stage of ``depths``, and their weights."""

    field: str
    values: tuple[Any, ...]
    weights: tuple[float, ...] | None = None

    @classmethod
    def of(cls, field: str, given: Any) -> "Axis":
        """Read a config's range, list of choices, or single value. Raises RequestError if it is invalid."""
        weights = None
        if isinstance(given, Mapping):
            if field not in (*NUMBERS, "depths"):
                raise RequestError(f"study.space.{field} is not a number and cannot have a range; list its options")
            span: Range = converted(given, Range, f"study.space.{field}")
            values = tuple(range(span.low, span.high + 1, span.step))
            # log-uniform over the continuous range, rounded down
            weights = tuple(math.log1p(span.step / value) for value in values) if span.log else None
        else:
            choices = given if isinstance(given, list | tuple) else [given]
            if field == "depths":
                values = tuple(Design.check_field(field, [choice] * STAGES)[0] for choice in choices)
            else:
                values = tuple(Design.check_field(field, choice) for choice in choices)
            values = tuple(dict.fromkeys(values))
        if not values:
            raise RequestError(f"study.space.{field} has no values; write a list of options or {{low: 1, high: 4}}")
        return cls(field, values, weights)

    def draw(self, source: random.Random) -> Any:
        """Draw one of the values."""
        return source.choice(self.values) if self.weights is None else source.choices(self.values, self.weights)[0]


class Space(Record):
    """``study=random``: ``n`` designs, drawn with ``seed``, that vary the fields in ``space``.

    The entry of a field is a range (``{low: 8, high: 40, step: 4}``, with ``log: true``), a list of choices or a single
    value; null keeps the base design's value. ``depths`` has one entry, from which each stage is drawn independently,
    or a list of four. ``gmacs`` (×10⁹) and ``params_m`` (×10⁶) are bands ``[lowest, highest]``; null is unbounded.
    """

    place: ClassVar[str] = "study"

    name: str
    n: PositiveInt
    seed: int
    space: dict[str, Any]
    gmacs: Band | None
    params_m: Band | None

    def __post_init__(self) -> None:
        for name in ("gmacs", "params_m"):
            low, high = getattr(self, name) or (None, None)
            if low is not None and high is not None and low > high:
                raise RequestError(f"study.{name} must be [least, most] (got [{low:g}, {high:g}])")
        if unknown := [field for field in self.space if field not in Design.__struct_fields__]:
            raise RequestError(f"unknown key study.space.{unknown[0]} (choose {listed(Design.__struct_fields__)})")
        if not self.axes():
            raise RequestError("study.space has no field that varies; write it as {width: {low: 8, high: 40}}")

    def axes(self) -> list[Axis]:
        """One axis per field, and one per stage for ``depths``."""
        axes = []
        for field, given in self.space.items():
            if field == "depths" and given is not None:
                stages = given if isinstance(given, list | tuple) else [given] * STAGES
                if len(stages) != STAGES:
                    raise RequestError(f"study.space.depths must have one entry or {STAGES} (got {len(stages)})")
                axes += [Axis.of(field, stage) for stage in stages]
            elif given is not None:
                axes.append(Axis.of(field, given))
        return axes

    def fits(self, cost: Cost) -> bool:
        """Whether a cost is within the bands."""
        return _within(cost.gmacs, self.gmacs) and _within(cost.params_m, self.params_m)

    def overrides(self, design: Design) -> list[str]:
        """The overrides that turn the base design into a design of the space."""
        chosen = {field: getattr(design, field) for field, given in self.space.items() if given is not None}
        values = {field: list(value) if isinstance(value, tuple) else value for field, value in chosen.items()}
        return [f"design.{field}={value}".replace(" ", "") for field, value in values.items()]


def sample(space: Space, base: Design, image_size: int, num_classes: int, layer_scale: bool) -> list[Design]:
    """Draw ``space.n`` distinct designs uniformly from the valid designs within the bands.

    ``log`` ranges weight the designs. Designs are rejected by their exact cost before any network is built. Fields that
    are not in the space are those of ``base``. Equal arguments give equal designs. Raises RequestError if there are too
    few designs within the bands.
    """
    axes = space.axes()
    found: list[Design] = []
    tried, refusal = 0, ""
    for values in _draws(axes, random.Random(space.seed), TRIES * space.n):
        tried += 1
        try:
            design = base.replace(**_fields(axes, values))
        except RequestError as error:
            refusal = f"; others are invalid: {error}"
            continue
        if space.fits(count_flops(design, image_size, num_classes, layer_scale)):
            found.append(design)
        if len(found) == space.n:
            return found
    raise RequestError(
        f"study.space has too few designs within study.gmacs and study.params_m for study.n={space.n}: "
        f"{len(found):,} of {tried:,} fit{refusal}; choose a wider band or space, or fewer designs"
    )


def _draws(axes: Sequence[Axis], source: random.Random, tries: int) -> Iterator[tuple[Any, ...]]:
    """Yield distinct points of a space in random order: all of them, or those of ``tries`` draws from a large space."""
    if _size(axes) <= FEW:
        every = itertools.product(*(axis.values for axis in axes))
        rates = itertools.product(*(axis.weights or (1.0,) * len(axis.values) for axis in axes))
        # sorted exponential variables with these rates give weighted draws without replacement
        rung = [(source.expovariate(math.prod(rate)), values) for rate, values in zip(rates, every, strict=True)]
        yield from (values for _, values in sorted(rung, key=itemgetter(0)))
        return
    seen = set()
    for _ in range(max(tries, FEW)):
        values = tuple(axis.draw(source) for axis in axes)
        if values not in seen:
            seen.add(values)
            yield values


def _size(axes: Sequence[Axis]) -> int:
    return math.prod(len(axis.values) for axis in axes)


def _fields(axes: Sequence[Axis], values: Sequence[Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for axis, value in zip(axes, values, strict=True):
        chosen[axis.field] = (*chosen.get(axis.field, ()), value) if axis.field == "depths" else value
    return chosen


def _within(value: float, band: Band | None) -> bool:
    low, high = band or (None, None)
    return (low is None or low <= value) and (high is None or value <= high)
