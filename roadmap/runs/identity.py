"""Run identity: which runs are seeds of one design, and which runs may be compared.

A run's definition (``Experiment.definition``) holds everything that determines its result.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import pandas as pd

from roadmap.errors import RequestError

Definitions = Iterable[Mapping[str, Any]]

SHARED = ("data", "image_size", "precision")  # equal in all runs that are compared
PER_RECIPE = ("epochs", "batch_size", "recipe", "pretrained")  # equal in all compared runs of one recipe


def group_keys(definitions: Definitions) -> list[bytes]:
    """One key per run, equal for runs that differ only in the seed."""
    return _keys_without(definitions, "seed")


def condition_keys(definitions: Definitions) -> list[bytes]:
    """One key per run, equal for runs that differ only in the design and the seed."""
    return _keys_without(definitions, "design", "seed")


def field_keys(definitions: Definitions, names: Sequence[str]) -> list[bytes]:
    """One key per run, equal for runs whose definitions have the same values of ``names``."""
    return [_encoded([definition.get(name) for name in names]) for definition in definitions]


def step_key(design: Any, recipe: Any) -> bytes:
    """The key of the runs of a step (``recipe`` is its name), or of a set of changes (``recipe`` has its settings)."""
    return _encoded([design, recipe])


def _keys_without(definitions: Definitions, *names: str) -> list[bytes]:
    return [_encoded({key: value for key, value in each.items() if key not in names}) for each in definitions]


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


class Parents(Protocol):
    """Which variant each variant is compared with."""

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        """The variant that ``variant`` is compared with, one of ``variants`` if possible; None for the first step."""

    def holds(self, variant: str) -> bool:
        """Whether the variant is a step of the path."""


@dataclass(frozen=True)
class Difference:
    """A condition in which runs differ, with the values of two of them."""

    key: str
    inner: str  # the only entry of the condition that differs, such as optimizer.lr, or empty
    values: tuple[Any, Any]

    def __str__(self) -> str:
        texts = [value if isinstance(value, str) else json.dumps(value) for value in self.values]
        first, second = (text if len(text) <= 60 else text[:57] + "..." for text in texts)
        return f"{self.key} ({self.inner}{' ' if self.inner else ''}{first} and {second})"


def differences(runs: pd.DataFrame, keys: Sequence[str] = (*SHARED, *PER_RECIPE)) -> list[Difference]:
    """The conditions among ``keys`` that forbid comparing the accuracies of ``runs``, in the order of ``keys``.

    ``SHARED`` conditions must be equal in all runs, the others in all runs of one recipe; a recipe's settings only
    within a regime, because they depend on the size of the network.
    """
    found: dict[str, Difference] = {}
    firsts: dict[tuple[str, ...], Any] = {}
    seen: set[bytes] = set()
    for regime, recipe, definition in zip(runs["regime"], runs["recipe"], runs["definition"], strict=True):
        text = _encoded([regime, recipe, [definition.get(key) for key in keys]])
        if text in seen:
            continue
        seen.add(text)
        for key in keys:
            scope = () if key in SHARED else (recipe, regime) if key == "recipe" else (recipe,)
            value = definition.get(key)
            first = firsts.setdefault((key, *scope), value)
            if first != value:
                found.setdefault(key, _narrowed(key, first, value))
    return [found[key] for key in keys if key in found]


def _narrowed(key: str, first: Any, second: Any) -> Difference:
    """The difference between two values, narrowed to the only entry that differs."""
    path = []
    while isinstance(first, dict) and isinstance(second, dict):
        unequal = [name for name in {**first, **second} if first.get(name) != second.get(name)]
        if len(unequal) != 1 and "name" not in unequal:
            break
        path.append("name" if "name" in unequal else unequal[0])
        first, second = first.get(path[-1]), second.get(path[-1])
    return Difference(key, ".".join(path).removesuffix("name"), (first, second))


def check_comparable(runs: pd.DataFrame, *, one_recipe: bool = False) -> None:
    """Raise RequestError, naming the first difference, if accuracies of ``runs`` must not share a table or figure.

    All runs must have the same data, image size and precision; runs of one regime and recipe must differ in design and
    seed only. Two recipes may stand side by side, because the change of recipe is a step of the roadmap. With
    ``one_recipe`` they may not, and runs of all regimes must have the same epochs and batch size.
    """
    if found := incomparable(runs, one_recipe=one_recipe):
        raise not_comparable(found[:1])


def incomparable(runs: pd.DataFrame, *, one_recipe: bool = False) -> list[Difference]:
    """The differences that ``check_comparable`` refuses."""
    if one_recipe:
        return _recipes(sorted(set(runs["recipe"]))) + differences(runs)
    found = differences(runs, SHARED)
    for _, group in runs.groupby("regime", dropna=False):
        found += differences(group, PER_RECIPE)
    return found


def unequal_conditions(runs: pd.DataFrame, path: Parents) -> list[Difference]:
    """The differences between finished ``runs`` that make gaps along ``path`` unfair. Precision is only a caution."""
    finished = runs[runs["status"] == "finished"]
    keys = [key for key in (*SHARED, *PER_RECIPE) if key != "precision"]
    return differences(finished, keys) + _unbridged_recipes(finished, runs, path)


def not_comparable(found: Sequence[Difference], alternative: str = "") -> RequestError:
    """The error for runs that differ in ``found``; ``alternative`` says what else the user can do."""
    return RequestError(
        f"these runs differ in {' and in '.join(map(str, found))}, so their accuracies cannot be compared; "
        f"select comparable runs with --where{alternative}"
    )


def _unbridged_recipes(finished: pd.DataFrame, runs: pd.DataFrame, path: Parents) -> list[Difference]:
    """Two recipes of finished runs that no design on the path, trained equally long with both, connects."""
    recipes = list(dict.fromkeys(finished["recipe"]))
    steps = runs[runs["variant"].map(path.holds)]
    of_design: dict[bytes, dict[str, dict[str, Any]]] = {}
    for design, recipe, definition in zip(steps["design"], steps["recipe"], steps["definition"], strict=True):
        of_design.setdefault(_encoded(design), {})[recipe] = definition
    reached = {*recipes[:1]}
    for _ in recipes[1:]:
        for definitions in of_design.values():
            near = [definition for recipe, definition in definitions.items() if recipe in reached]
            reached |= {r for r, definition in definitions.items() if any(_equally_long(definition, n) for n in near)}
    return _recipes([*recipes[:1], *(recipe for recipe in recipes if recipe not in reached)])


def _recipes(names: Sequence[str]) -> list[Difference]:
    return [Difference("recipe", "", (names[0], names[1]))] if len(names) > 1 else []


def check_equally_long(runs: pd.DataFrame) -> None:
    """Raise RequestError if recipes were trained for neither as many epochs nor the same share of their schedules."""
    firsts = runs.drop_duplicates("recipe")
    first, *others = zip(firsts["recipe"], firsts["definition"], strict=True)
    for recipe, definition in others:
        if not _equally_long(first[1], definition):
            raise RequestError(
                f"recipes {first[0]} and {recipe} were trained for different shares of their schedules "
                f"({first[1]['epochs']} and {definition['epochs']} epochs); select runs with --where"
            )


def _equally_long(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("epochs") == other.get("epochs") or _share(one) == _share(other)


def _share(definition: Mapping[str, Any]) -> float:
    """The epochs of a run divided by those of its recipe's schedule."""
    try:
        return float(definition["epochs"] / definition["recipe"]["schedule"]["epochs"])
    except (KeyError, TypeError):
        return float("nan")


def cautions(runs: pd.DataFrame) -> list[str]:
    """A sentence on each difference between finished runs that is worth knowing but does not forbid comparing them."""
    values: dict[str, Iterable[Any]] = {
        "precision": runs["precision"],
        "device (speed, memory and time cannot be compared)": runs["device"],
        "the commit of the code": runs["git_commit"],
        "the version of torch": [one.get("torch") for one in runs["versions"] if isinstance(one, dict)],
    }
    for recipe, group in runs.groupby("recipe"):
        counts = group["batch_norm_images"].dropna().astype(int)
        values[f"the number of images per batch-norm batch (recipe {recipe})"] = counts
    found = []
    for what, column in values.items():
        different = sorted({str(value)[:12] for value in column if value == value and value is not None})
        if len(different) > 1:
            more = f" and {len(different) - 4} more" if len(different) > 4 else ""
            found.append(f"these runs differ in {what}: {', '.join(different[:4])}{more}")
    return [*found, *_rounded_differently(runs)]


def _rounded_differently(runs: pd.DataFrame) -> list[str]:
    """A sentence if finished runs that are averaged had different numbers of threads or different hardware."""
    words: list[str] = []
    variants: dict[str, None] = {}
    for name, what in (("threads", "threads"), ("device_name", "hardware")):
        if runs[name].nunique() < 2:
            continue
        of_group = runs[name].groupby(pd.Series(group_keys(runs["definition"]), runs.index, dtype=object))
        mixed = runs[of_group.transform("nunique") > 1]
        if values := sorted(set(mixed[name].dropna())):
            words.append(f"{what} ({', '.join(f'{v:g}' if name == 'threads' else v for v in values)})")
            variants |= dict.fromkeys(mixed["variant"])
    if not words:
        return []
    first, *others = variants
    more = f" and {len(others)} more" if others else ""
    return [f"averaged runs differ in {' and '.join(words)}, whose rounding acts like another seed: {first}{more}"]
