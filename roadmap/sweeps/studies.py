"""Studies off the path: which designs each of them trains, as configs, without the seeds."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from roadmap.attribution.change_subsets import MOST_CHANGES, ChangeSubsets, beginnings
from roadmap.config.compose import Composed, Patch, compose, options_of, patched
from roadmap.config.overrides import TOGGLES, is_toggle, key_of
from roadmap.design_spaces.space import Space, sample
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.baseline_model import BaselineModel
from roadmap.steps.path import Step, compose_path
from roadmap.validation import PositiveInt, Record

TRIES = 1000  # shuffles for one feasible order


@dataclass(frozen=True)
class Member:
    """A design of a study; ``changes`` are those of the path that are in it, None where it is no set of them."""

    composed: Composed
    changes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Study:
    """What a study trains; ``orders`` are the orders of changes it asks about, ``notes`` what a user should know."""

    members: list[Member]
    changes: tuple[str, ...] | None = None
    orders: list[list[str]] | None = None
    notes: list[str] = field(default_factory=list)


class OneChange(Record):
    """``leave_one_out`` and ``add_one_in``."""

    place: ClassVar[str] = "study"

    name: Literal["leave_one_out", "add_one_in"]
    changes: tuple[str, ...] | None


class Orders(Record):
    place: ClassVar[str] = "study"

    name: Literal["orders"]
    changes: tuple[str, ...] | None
    keep_others: bool
    orders: Literal["random", "all"] | tuple[tuple[str, ...], ...]
    n: PositiveInt
    seed: int


def study_of(asked: Mapping[str, Any] | None, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Study:
    """The study of a config's ``study`` on what the other overrides choose. Raises RequestError if it is not valid."""
    if asked is None:
        raise RequestError(f"roadmap sweep needs a study (choose study={listed([*STUDIES, 'search'])})")
    if asked["name"] not in STUDIES:
        raise RequestError(f"unknown study.name '{asked['name']}' (choose {listed(STUDIES)})")
    if asked["name"] == "factorial":
        return factorial(asked, overrides, config_dirs)
    if asked["name"] == "random":
        return drawn(Space.from_mapping(asked), compose(overrides, config_dirs))
    if any(key_of(word) == "step" for word in overrides):
        raise RequestError(f"step= does not go with study={asked['name']}: its designs are sets of the path's changes")
    steps = compose_path(overrides, config_dirs)
    if asked["name"] == "orders":
        return orders(Orders.from_mapping(asked), steps, config_dirs)
    return one_change(OneChange.from_mapping(asked), ChangeSubsets.of(steps, config_dirs=config_dirs))


def one_change(wanted: OneChange, subsets: ChangeSubsets) -> Study:
    """The path's end without each change, or its start with each."""
    names = subsets.names(subsets.full) if wanted.changes is None else wanted.changes
    subsets.mask(names)
    leaving = wanted.name == "leave_one_out"
    masks, notes = [subsets.full if leaving else 0], []
    for name in names:
        mask = subsets.without(name) if leaving else subsets.alone(name)
        others = [other for other in subsets.names(subsets.full ^ mask if leaving else mask) if other != name]
        if others:
            verb = "leaves with" if leaving else "comes with"
            notes.append(f"{name} {verb} {' and '.join(others)}: {_reason(subsets, name, leaving)}")
        masks.append(mask)
    return Study(_members(subsets, masks), tuple(names), None, notes)


def _reason(subsets: ChangeSubsets, name: str, leaving: bool) -> str:
    own = subsets.mask([name])
    try:
        subsets.point(subsets.full ^ own if leaving else own)
    except RequestError as error:
        return str(error).split(": ", 1)[1]
    raise AssertionError("a feasible set needs no others")


def orders(wanted: Orders, steps: Sequence[Step], config_dirs: Sequence[str]) -> Study:
    """Every beginning of every order, each once."""
    subsets = ChangeSubsets.of(steps, wanted.changes, wanted.keep_others, config_dirs)
    names = subsets.names(subsets.full)
    if wanted.orders == "all":
        if len(names) > MOST_CHANGES:
            raise RequestError(f"study.orders=all of {len(names)} changes is too much; choose at most {MOST_CHANGES}")
        return Study(_members(subsets, subsets.masks()), tuple(names), None)
    given = wanted.orders
    found = _given_orders(subsets, given) if isinstance(given, tuple) else _random_orders(subsets, wanted)
    masks = dict.fromkeys(mask for order in found for mask in beginnings(subsets.places(order)))
    return Study(_members(subsets, masks), tuple(names), found)


def _random_orders(subsets: ChangeSubsets, wanted: Orders) -> list[list[str]]:
    """Distinct feasible orders, each as probable as any other."""
    draw, names = random.Random(wanted.seed), subsets.names(subsets.full)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(TRIES * wanted.n):
        order = draw.sample(names, len(names))
        if all(map(subsets.feasible, beginnings(subsets.places(order)))):
            found[tuple(order)] = None
        if len(found) == wanted.n:
            return [list(order) for order in found]
    raise RequestError(
        f"study.n={wanted.n}: only {len(found)} orders of these {len(names)} changes were found in which each change "
        "has what it needs; choose fewer, or study.orders=all"
    )


def _given_orders(subsets: ChangeSubsets, given: Sequence[Sequence[str]]) -> list[list[str]]:
    names = subsets.names(subsets.full)
    for number, order in enumerate(given, 1):
        if sorted(order) != sorted(names):
            raise RequestError(
                f"order {number} of study.orders must name each of {', '.join(names)} once (got {', '.join(order)})"
            )
        for mask in beginnings(subsets.places(order)):
            try:
                subsets.point(mask)
            except RequestError as error:
                raise RequestError(f"order {number} of study.orders has a set that cannot be: {error}") from error
    return [list(order) for order in given]


def _members(subsets: ChangeSubsets, masks: Any) -> list[Member]:
    return [Member(subsets.point(mask), tuple(subsets.names(mask))) for mask in masks]


def factorial(asked: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str]) -> Study:
    """All combinations of options that go together."""
    unknown = [key for key in asked if key not in ("name", "axes")]
    if unknown:
        raise RequestError(f"unknown key study.{unknown[0]} (choose name or axes)")
    axes = asked["axes"]
    if not isinstance(axes, dict) or not axes:
        raise RequestError(f"study.axes must be toggles with options, such as {{kernel:[k3,k7]}} (got {axes})")
    for name, options in axes.items():
        if not is_toggle(f"{name}="):
            raise RequestError(f"study.axes: '{name}' is no toggle of a design (choose {listed(TOGGLES)})")
        if not isinstance(options, list) or not options:
            raise RequestError(f"study.axes.{name} must be a list of options (got {options})")
    base = compose(overrides, config_dirs)
    words = {
        name: list(dict.fromkeys(f"{name}={_text(option)}" for option in options)) for name, options in axes.items()
    }
    patches = {word: _patch(base, word, config_dirs) for options in words.values() for word in options}
    # of several axes that set more than the design, one may set what another depends on
    wide = sum(any(patches[word].values for word in options) for options in words.values())
    members, left_out = [], []
    for combination in itertools.product(*words.values()):
        chosen = _with(overrides, combination)
        try:
            if wide > 1:
                composed = compose(chosen, config_dirs)
            else:
                composed = patched(base, [patches[word] for word in combination], chosen)
        except RequestError as error:
            left_out.append(str(error))
        else:
            members.append(Member(composed))
    total = math.prod(map(len, words.values()))
    notes = [f"{len(left_out)} of {total} combinations are left out: {left_out[0]}"] if left_out else []
    if not members:
        raise RequestError(notes[0])
    return Study(members, notes=notes)


def drawn(space: Space, base: Composed) -> Study:
    """Designs of a space around the chosen step's. RequestError where ``match_gmacs`` would take back what it draws."""
    if base.settings.match_gmacs is not None:
        by_width = base.settings.match_by == "width"
        if space.gmacs is not None or (by_width and space.space.get("width") is not None):
            key = "gmacs" if space.gmacs is not None else "space.width"
            raise RequestError(f"study.{key} does not go with match_gmacs, which decides it; add study.{key}=null")
    if isinstance(base.asked, BaselineModel):
        raise RequestError(f"study={space.name} does not go with model=: it draws designs of our own network")
    size, classes = base.settings.image_size, base.regime.num_classes
    designs = sample(space, base.asked, size, classes, base.recipe.network.layer_scale is not None)
    members = []
    for design in designs:
        overrides = _with(base.overrides, space.overrides(design))
        members.append(Member(patched(base, [Patch(design.to_dict(), {}, {})], overrides)))
    return Study(members)


def _patch(base: Composed, word: str, config_dirs: Sequence[str]) -> Patch:
    options = options_of(_with(base.overrides, [word]), config_dirs)
    return Patch.between(base, options.values, options.choices)


def _with(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides with others, which take the place of those that set the same."""
    return [*{key_of(word): word for word in (*overrides, *words)}.values()]


def _text(option: Any) -> str:
    """An option as a command line has it."""
    return str(option).replace(" ", "") if isinstance(option, list) else str(option)


STUDIES = ("leave_one_out", "add_one_in", "orders", "factorial", "random")
