"""The designs that each study trains, as configs without seeds."""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from roadmap.attribution.change_subsets import MOST_CHANGES, ChangeSubsets, beginnings
from roadmap.config.build import network_cost
from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.overrides import TOGGLES, is_toggle, key_of
from roadmap.config.patches import Patch, patched
from roadmap.design_spaces.space import Space, sample
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.design import BaselineModel
from roadmap.screening.designs import ScreeningDesign, screening_design
from roadmap.steps.path import Step, compose_path
from roadmap.validation import NonNegativeInt, PositiveInt, Record

STUDIES = ("leave_one_out", "add_one_in", "orders", "screening", "factorial", "random")
TRIES = 1000  # shuffles for one feasible order


@dataclass(frozen=True)
class StudyDesign:
    """A design of a study; ``changes`` are those of the path that it has, None if it is no set of changes.

    It is trained with one ``seed``, or with all of them (None).
    """

    composed: Composed
    changes: tuple[str, ...] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Study:
    """The designs that a study trains, the orders of changes that it compares, and notes for the user.

    A screening design comes with the path's ``steps``.
    """

    designs: list[StudyDesign]
    changes: tuple[str, ...] | None = None
    orders: list[list[str]] | None = None
    notes: Sequence[str] = ()
    screening: ScreeningDesign | None = None
    steps: Sequence[Step] = ()


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


class Screening(Record):
    """``gmacs`` (×10⁹) is the band [least, most] of a combination's cost; None is unbounded."""

    place: ClassVar[str] = "study"

    name: Literal["screening"]
    changes: tuple[str, ...] | None
    keep_others: bool
    n: PositiveInt
    replicates: NonNegativeInt
    gmacs: tuple[float, float] | None
    seed: NonNegativeInt


class Factorial(Record):
    place: ClassVar[str] = "study"

    name: Literal["factorial"]
    axes: dict[str, Any]

    def __post_init__(self) -> None:
        for name, options in self.axes.items():
            if not is_toggle(f"{name}="):
                raise RequestError(f"study.axes: '{name}' is not a toggle of a design (choose {listed(TOGGLES)})")
            if not isinstance(options, list) or not options:
                raise RequestError(f"study.axes.{name} must be a list of options (got {options})")


def study_of(
    node: Mapping[str, Any] | None,
    overrides: Sequence[str],
    config_dirs: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
) -> Study:
    """Return the study of a config's node ``study`` with the other ``overrides``. Raises RequestError if invalid.

    Only a screening design depends on ``seeds``.
    """
    if node is None:
        raise RequestError(f"roadmap sweep needs a study (choose study={listed([*STUDIES, 'search'])})")
    if node["name"] not in STUDIES:
        raise RequestError(f"unknown study.name '{node['name']}' (choose {listed(STUDIES)})")
    if node["name"] == "factorial":
        return factorial(Factorial.from_mapping(node), overrides, config_dirs)
    if node["name"] == "random":
        return random_designs(Space.from_mapping(node), compose(overrides, config_dirs))
    if any(key_of(word) == "step" for word in overrides):
        raise RequestError(f"step= does not go with study={node['name']}: its designs are sets of the path's changes")
    steps = compose_path(overrides, config_dirs)
    if node["name"] == "orders":
        study = Orders.from_mapping(node)
        return orders(study, ChangeSubsets.of(steps, study.changes, study.keep_others, config_dirs))
    if node["name"] == "screening":
        wanted = Screening.from_mapping(node)
        subsets = ChangeSubsets.of(steps, wanted.changes, wanted.keep_others, config_dirs)
        return replace(screening(wanted, subsets, seeds), steps=steps)
    return one_change(OneChange.from_mapping(node), ChangeSubsets.of(steps, config_dirs=config_dirs))


def one_change(study: OneChange, subsets: ChangeSubsets) -> Study:
    """Return the path's end without each change, or its start with each."""
    names = study.changes or tuple(subsets.names(subsets.full))
    leaving = study.name == "leave_one_out"
    masks, notes = [subsets.full if leaving else 0], []
    for name in names:
        masks.append(subsets.without(name) if leaving else subsets.alone(name))
        changed = subsets.names(subsets.full ^ masks[-1] if leaving else masks[-1])
        if others := [other for other in changed if other != name]:
            notes.append(f"{name} {'leaves' if leaving else 'comes'} with {' and '.join(others)}, to be a valid design")
    return Study(_designs(subsets, masks), names, notes=notes)


def orders(study: Orders, subsets: ChangeSubsets) -> Study:
    """Return every prefix of every order, each once."""
    names = subsets.names(subsets.full)
    if study.orders == "all":
        if len(names) > MOST_CHANGES:
            raise RequestError(f"study.orders=all of {len(names)} changes is too much; choose at most {MOST_CHANGES}")
        return Study(_designs(subsets, subsets.masks()), tuple(names))
    if isinstance(study.orders, tuple):
        found = [list(order) for order in study.orders]
        if wrong := [order for order in found if sorted(order) != sorted(names)]:
            raise RequestError(
                f"each order of study.orders must name each of {', '.join(names)} once (got {', '.join(wrong[0])})"
            )
    else:
        found = _random_orders(subsets, study)
    masks = dict.fromkeys(mask for order in found for mask in beginnings(subsets.places(order)))
    return Study(_designs(subsets, masks), tuple(names), found)


def screening(study: Screening, subsets: ChangeSubsets, seeds: Sequence[int]) -> Study:
    """Return the runs of a screening design. Raises RequestError if an effect cannot be estimated."""
    names = subsets.names(subsets.full)
    if len(names) > MOST_CHANGES:
        raise RequestError(
            f"study=screening of {len(names)} changes is too much; choose at most {MOST_CHANGES} by study.changes=[…]"
        )
    allowed = subsets.masks()
    if study.gmacs is not None:
        least, most = study.gmacs
        allowed = [mask for mask in allowed if least <= network_cost(subsets.point(mask)).gmacs <= most]
    if not allowed:
        raise RequestError(f"no combination of these changes is within study.gmacs={list(study.gmacs or ())}")
    design = screening_design(names, np.array(allowed), study.n, study.replicates, sorted(set(seeds)), study.seed)
    runs = zip(design.masks.tolist(), design.seeds.tolist(), strict=True)
    designs = [StudyDesign(subsets.point(mask), tuple(subsets.names(mask)), seed) for mask, seed in runs]
    return Study(designs, tuple(names), screening=design)


def _random_orders(subsets: ChangeSubsets, study: Orders) -> list[list[str]]:
    """Return distinct feasible orders, each as probable as any other."""
    draw, names = random.Random(study.seed), subsets.names(subsets.full)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(TRIES * study.n):
        order = draw.sample(names, len(names))
        if all(map(subsets.feasible, beginnings(subsets.places(order)))):
            found[tuple(order)] = None
        if len(found) == study.n:
            return [list(order) for order in found]
    raise RequestError(
        f"study.n={study.n}: only {len(found)} valid orders of these {len(names)} changes were found; "
        "choose fewer, or study.orders=all"
    )


def _designs(subsets: ChangeSubsets, masks: Iterable[int]) -> list[StudyDesign]:
    return [StudyDesign(subsets.point(mask), tuple(subsets.names(mask))) for mask in masks]


def factorial(study: Factorial, overrides: Sequence[str], config_dirs: Sequence[str]) -> Study:
    """Return all valid combinations of options."""
    base = compose(overrides, config_dirs)
    patches: dict[str, dict[str, Patch]] = {}
    for name, options in study.axes.items():
        # a list as the command line has it
        words = [f"{name}={str(option).replace(' ', '') if isinstance(option, list) else option}" for option in options]
        composed = {word: options_of(_merged(base.overrides, [word]), config_dirs) for word in words}
        patches[name] = {word: Patch.between(base, each.values, each.choices) for word, each in composed.items()}
    # of several axes that set more than the design, one may set what another depends on
    wide = sum(any(patch.values for patch in axis.values()) for axis in patches.values()) > 1
    designs, refusals = [], []
    for combination in itertools.product(*(axis.items() for axis in patches.values())):
        chosen = _merged(overrides, [word for word, _ in combination])
        try:
            composed_design = (
                compose(chosen, config_dirs) if wide else patched(base, [patch for _, patch in combination], chosen)
            )
        except RequestError as error:
            refusals.append(str(error))
        else:
            designs.append(StudyDesign(composed_design))
    total = math.prod(map(len, patches.values()))
    notes = [f"{len(refusals)} of {total} combinations are left out: {refusals[0]}"] if refusals else []
    if not designs:
        raise RequestError(notes[0])
    return Study(designs, notes=notes)


def random_designs(space: Space, base: Composed) -> Study:
    """Return random designs of a space around the chosen step. RequestError if ``match_gmacs`` sets what varies."""
    if base.settings.match_gmacs is not None:
        by_width = base.settings.match_by == "width"
        if space.gmacs is not None or (by_width and space.space.get("width") is not None):
            key = "gmacs" if space.gmacs is not None else "space.width"
            raise RequestError(f"study.{key} does not go with match_gmacs, which decides it; add study.{key}=null")
    if isinstance(base.asked, BaselineModel):
        raise RequestError(f"study={space.name} does not go with model=: it draws designs of our own network")
    size, classes = base.settings.image_size, base.regime.num_classes
    designs = []
    for design in sample(space, base.asked, size, classes, base.recipe.network.layer_scale is not None):
        overrides = _merged(base.overrides, space.overrides(design))
        designs.append(StudyDesign(patched(base, [Patch(design.to_dict(), {}, {})], overrides)))
    return Study(designs)


def _merged(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the overrides with others, which replace those of the same key."""
    return [*{key_of(word): word for word in (*overrides, *words)}.values()]
