"""Whether accuracies may stand in one table: what must be equal between runs for a gap to be their designs'."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.reading import BY_NAME

# Equal for all runs whatever their recipe; and what is equal for all runs of one recipe.
EVERYWHERE = ("data", "image_size", "precision")
CONDITIONS = ("data", "image_size", "epochs", "batch_size", "recipe", "pretrained")


class Parents(Protocol):
    """Steps in order, each but the first with a parent."""

    def parent(self, variant: str, variants: Collection[str]) -> str | None:
        """The variant that this one is to be compared with, given all that there are."""

    def holds(self, variant: str) -> bool:
        """Whether this variant is a step of the path."""


@dataclass(frozen=True)
class Difference:
    """A condition in which runs differ, and what two of them have there."""

    key: str
    inner: str  # the only entry of the condition that differs, if there is but one
    values: tuple[Any, Any]

    def __str__(self) -> str:
        first, second = map(_short, self.values)
        return f"{self.key} ({self.inner}{' ' if self.inner else ''}{first} and {second})"


def check_comparable(runs: pd.DataFrame) -> None:
    """RequestError naming what differs, if runs of one recipe differ in more than design and seed, or any in data.

    Two recipes may stand side by side: on a roadmap the change of recipe is a step.
    """
    found = differences(runs, [*CONDITIONS, "precision"])
    if found:
        raise RequestError(
            f"these runs differ in {found[0]}, so one table of them would compare what is not equal; "
            "name the folders of one kind only"
        )


def check_one_comparison(runs: pd.DataFrame) -> None:
    """Raise RequestError, naming what differs, for runs of one or more regimes whose accuracies cannot be compared.

    Recipes may differ between regimes; the data must be the same.
    """
    for _, group in runs.groupby("regime"):
        check_comparable(group)
    if found := differences(runs, EVERYWHERE):
        raise RequestError(
            f"these runs differ in {found[0]}, so one picture of them would compare what is not equal; "
            "name the folders of one kind only, or choose with regime= and data="
        )


def differences(runs: pd.DataFrame, keys: Sequence[str]) -> list[Difference]:
    """What differs among ``keys`` of the definitions, in their order: between runs of one recipe, or between any.

    Beside records that know their recipe and data by name only, the others are compared by name too.
    """
    by_name = any(BY_NAME in definition for definition in runs["definition"])
    found: dict[str, Difference] = {}
    firsts: dict[tuple[str, ...], Mapping[str, Any]] = {}
    seen: set[bytes] = set()
    for regime, recipe, definition in zip(runs["regime"], runs["recipe"], runs["definition"], strict=True):
        conditions = {key: value for key, value in definition.items() if key in keys}
        if by_name:
            # a definition's recipe has no name, since two names may stand for the same
            data = conditions.get("data")
            conditions |= {"recipe": recipe, "data": data.get("name") if isinstance(data, dict) else data}
        text = msgspec.json.encode([regime, recipe, conditions], order="sorted")
        if text in seen:
            continue
        seen.add(text)
        for key in keys:
            # a recipe has rates for each size of network
            alike = () if key in EVERYWHERE else (recipe, regime) if key == "recipe" else (recipe,)
            first = firsts.setdefault((key, *alike), conditions)
            if first.get(key) != conditions.get(key):
                found.setdefault(key, _narrowed(key, first.get(key), conditions.get(key)))
    return [found[key] for key in keys if key in found]


def _narrowed(key: str, first: Any, second: Any) -> Difference:
    """With the entry that differs rather than the whole, where there is but one: ``optimizer.lr`` of a recipe."""
    path = []
    while isinstance(first, dict) and isinstance(second, dict):
        unequal = [name for name in {**first, **second} if first.get(name) != second.get(name)]
        if len(unequal) != 1 and "name" not in unequal:
            break
        path.append("name" if "name" in unequal else unequal[0])
        first, second = first.get(path[-1]), second.get(path[-1])
    return Difference(key, ".".join(path).removesuffix("name"), (first, second))


def unbridged_recipes(finished: pd.DataFrame, runs: pd.DataFrame, path: Parents) -> Difference | None:
    """Two recipes of finished runs between which no step of the path leads.

    On a roadmap the change of recipe is a step: the same design, as steps of the path, with the one and the other, each
    for as many epochs or for as great a share of its recipe's own. Runs that are still to finish are such steps too.
    """
    recipes = list(dict.fromkeys(finished["recipe"]))
    if len(recipes) < 2:
        return None
    steps = runs[runs["variant"].map(path.holds)]
    of_design: dict[str, dict[str, dict[str, Any]]] = {}
    for design, recipe, definition in zip(steps["design"], steps["recipe"], steps["definition"], strict=True):
        of_design.setdefault(json.dumps(design, sort_keys=True), {})[recipe] = definition
    reached = {recipes[0]}
    for _ in recipes:
        for definitions in of_design.values():
            near = [definition for recipe, definition in definitions.items() if recipe in reached]
            reached |= {r for r, definition in definitions.items() if any(as_long(definition, n) for n in near)}
    missing = [recipe for recipe in recipes if recipe not in reached]
    return Difference("recipe", "", (recipes[0], missing[0])) if missing else None


def as_long(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two definitions are trained for as many epochs, or for as great a share of their recipes' own."""
    return one.get("epochs") == other.get("epochs") or _share(one) == _share(other)


def _share(definition: Mapping[str, Any]) -> float:
    """The epochs that were run of those that the recipe has."""
    try:
        return float(definition["epochs"] / definition["recipe"]["schedule"]["epochs"])
    except (KeyError, TypeError):
        return float("nan")


def cautions(runs: pd.DataFrame) -> list[str]:
    """What differs between finished runs and is no reason to refuse, but to be known; a sentence each."""
    found = []
    for key, what in (
        ("precision", "precision"),
        ("device", "device (speed, memory and time are no fair comparison)"),
        ("git_commit", "the code's commit"),
        ("versions", "versions of torch"),
    ):
        values = {_version(value) if key == "versions" else value for value in runs[key]} - {None}
        if len(values) > 1:
            found.append(f"these runs differ in {what}: {_listed(values)}")
    images = runs[runs["batch_norm_images"].notna()].groupby("recipe")["batch_norm_images"].unique()
    for recipe, values in images.items():
        if len(values) > 1:
            counts = _listed(int(value) for value in values)
            found.append(f"runs of recipe {recipe} differ in the images that BN saw at once: {counts}")
    if any(BY_NAME in definition for definition in runs["definition"]):
        found.append(
            "some records are from a version that did not say what defines a run: recipe and data by name only"
        )
    return found


def _version(versions: Any) -> Any:
    return versions.get("torch") if isinstance(versions, dict) else None


def _listed(values: Iterable[Any]) -> str:
    texts = sorted(str(value)[:12] for value in values)
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
