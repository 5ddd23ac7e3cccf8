"""The sections of a report: which runs may share a chart, and the commands that reproduce them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from roadmap.comparison.groups import OwnPath, PaperPath
from roadmap.comparison.step_table import on_path
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import flatten_dict
from roadmap.runs.identity import SHARED, Parents, field_keys, incomparable, unequal_conditions
from roadmap.steps.path import Step, compose_path

# Runs of one recipe are split by these, in this order, until they differ in design and seed only.
BUDGET = ("epochs", "batch_size", "pretrained")
CONDITIONS = (*BUDGET, "recipe")
MAX_ROADMAPS = 4  # of one regime and data set; more variations than that are a sweep, not roadmaps


@dataclass(frozen=True)
class Section:
    """Comparable runs, unfinished ones included: the steps of a path, or without ``steps`` any designs.

    ``conditions`` says how the section differs from the others of its regime and data set.
    """

    runs: pd.DataFrame
    steps: list[Step] | None = None
    conditions: str = ""
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Parents:
        """Which step precedes which."""
        return OwnPath.of(self.steps) if self.steps else PaperPath()


def sections(runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Section]:
    """Split ``runs`` into sections. Raises RequestError if ``path=`` names an unknown path."""
    found: list[Section] = []
    for (regime, data), here in runs.groupby([runs["regime"].astype(str), runs["data"].astype(str)], sort=False):
        steps, notes = _compose({"regime": str(regime), "data": str(data)}, overrides, config_dirs)
        parts = [section for part in _grouped(here, SHARED) for section in _same_images(part, steps)]
        names = _condition_names([part.runs for part in parts])
        for part, name in zip(parts, names, strict=True):
            unequal = unequal_conditions(part.runs, part.path)
            caveats = [f"These runs differ in {each}, which may explain a gap between two of them." for each in unequal]
            found.append(replace(part, conditions=name, notes=(*notes, *caveats)))
    return found


def _compose(
    given: dict[str, str], overrides: Sequence[str], config_dirs: Sequence[str]
) -> tuple[list[Step], list[str]]:
    """Return the steps of the path for a regime and data, or a note saying why there are none."""
    given = dict(override.split("=", 1) for override in overrides) | given
    try:
        return compose_path([f"{key}={value}" for key, value in given.items()], config_dirs), []
    except RequestError as error:
        if overrides:
            raise
        return [], [f"Shown without a roadmap, because the path of these runs cannot be composed here: {error}."]


def _same_images(runs: pd.DataFrame, steps: list[Step]) -> list[Section]:
    """Return the sections of runs on the same images: roadmaps first, then the remaining runs by budget."""
    drawable = pd.Series(on_path(runs, steps) if steps else False, index=runs.index)
    roadmaps = [part for part in comparable_parts(runs[drawable]) if part["variant"].nunique() > 1]
    roadmaps = roadmaps if len(roadmaps) <= MAX_ROADMAPS else []
    rest = runs.drop(index=list({index for part in roadmaps for index in part.index}))
    return [*(Section(part, steps) for part in roadmaps), *(Section(part) for part in _grouped(rest, BUDGET))]


def comparable_parts(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Return ``runs`` in parts that differ in design, recipe and seed only, the largest first.

    A recipe that was run in one way only belongs to every part, unless another recipe varies in that way too.
    """
    return sorted(_split(runs, CONDITIONS), key=len, reverse=True) if len(runs) else []


def _split(runs: pd.DataFrame, keys: Sequence[str]) -> list[pd.DataFrame]:
    if not incomparable(runs) or not keys:
        return [runs]
    values = pd.Series(field_keys(runs["definition"], keys[:1]), index=runs.index)
    of_recipe = values.groupby(runs["recipe"]).unique()
    varied = list(dict.fromkeys(value for found in of_recipe if len(found) > 1 for value in found))
    shared = [recipe for recipe, found in of_recipe.items() if len(found) == 1 and found[0] not in varied]
    parts = [runs[(values == value) | runs["recipe"].isin(shared)] for value in varied] or [runs]
    return [part for some in parts for part in _split(some, keys[1:])]


def _grouped(runs: pd.DataFrame, names: Sequence[str]) -> list[pd.DataFrame]:
    """Return ``runs`` in groups whose definitions are equal in ``names``."""
    keys = pd.Series(field_keys(runs["definition"], names), index=runs.index, dtype=object)
    return [group for _, group in runs.groupby(keys, sort=False)]


def _condition_names(parts: Sequence[pd.DataFrame]) -> list[str]:
    """Return what distinguishes each part, such as ``epochs 30, recipe.optimizer.lr 0.004``."""
    own: list[dict[str, Any]] = []
    for part in parts:
        first, *others = [flatten_dict(definition) for definition in part["definition"]]
        own.append({key: value for key, value in first.items() if all(row.get(key) == value for row in others)})
    keys = [key for key in own[0] if all(key in values for values in own) and not key.startswith("design.")]
    differing = [key for key in keys if len({repr(values[key]) for values in own}) > 1]
    return [", ".join(f"{key} {values[key]}" for key in differing)[:120] for values in own]


def train_command(overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """Return ``roadmap train …`` for one run, quoted for a shell; ``seeds=`` belongs to `roadmap run`."""
    return _line("train", [word for word in overrides if key_of(word) != "seeds"], config_dirs)


def run_command(section: Section, logged: Sequence[Sequence[str] | None], config_dirs: Sequence[str]) -> str | None:
    """Return ``roadmap run …`` with the ``logged`` overrides that all runs of a roadmap share, if there are any."""
    known = [words for words in (logged[index] for index in section.runs.index) if words is not None]
    if not known or not section.steps:
        return None
    composed, first = section.steps[0].composed, section.steps[0].change  # first: in every run, without being given
    kept = {"regime": f"regime={composed.regime.name}", "data": f"data={composed.data_name}"}
    if composed.path_name != "paper":
        kept["path"] = f"path={composed.choices['path']}"
    for word in known[0]:
        if key_of(word) not in ("step", "seed", "seeds") and word not in first and all(word in each for each in known):
            kept[key_of(word)] = word
    seeds = sorted({int(seed) for seed in section.runs["seed"].dropna()})
    return _line("run", [*kept.values(), f"seeds=[{','.join(map(str, seeds))}]"], config_dirs)


def _line(command: str, words: Sequence[str], config_dirs: Sequence[str]) -> str:
    return shlex.join(["roadmap", command, *words, *(part for d in config_dirs for part in ("--config-dir", d))])
