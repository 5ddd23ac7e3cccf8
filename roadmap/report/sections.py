"""The sections of a report: which runs may share a chart, and the commands that reproduce them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pandas as pd

from roadmap.comparison.groups import OwnPath, PaperPath
from roadmap.comparison.step_table import on_path, runs_of_steps
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
    for _, here in runs.groupby([runs["regime"].astype(str), runs["data"].astype(str)], sort=False):
        charts = [section for part in _grouped(here, SHARED) for section in _same_images(part, overrides, config_dirs)]
        names = _condition_names([chart.runs for chart in charts])
        found += [replace(chart, conditions=name) for chart, name in zip(charts, names, strict=True)]
    return found


def _same_images(runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Section]:
    """The sections of runs on the same images: roadmaps first, then the remaining runs by budget."""
    steps, notes = _compose(runs, overrides, config_dirs)
    drawable = pd.Series(on_path(runs, steps) if steps else False, index=runs.index)
    roadmaps = _roadmaps(comparable_parts(runs[drawable]), steps or [])
    drawn = {index for part in roadmaps for index in part.index}
    rest = runs[[index not in drawn for index in runs.index]]
    found = [Section(part, steps) for part in roadmaps]
    found += [Section(part) for part in _grouped(rest, BUDGET)]
    return [replace(section, notes=(*notes, *_inequalities(section))) for section in found]


def _compose(
    runs: pd.DataFrame, overrides: Sequence[str], config_dirs: Sequence[str]
) -> tuple[list[Step] | None, tuple[str, ...]]:
    """The steps of the path for the regime and data of these runs, or a note saying why there are none."""
    given = dict(override.split("=", 1) for override in overrides)
    given |= {key: str(runs[key].iloc[0]) for key in ("regime", "data")}
    try:
        return composed_path(tuple(f"{key}={value}" for key, value in given.items()), tuple(config_dirs)), ()
    except RequestError as error:
        if overrides:
            raise
        return None, (f"Shown without a roadmap, because the path of these runs cannot be composed here: {error}.",)


def _inequalities(section: Section) -> list[str]:
    """A note on each condition in which the finished runs of a section differ."""
    found = unequal_conditions(section.runs, section.path)
    return [f"These runs differ in {each}, which may explain a gap between two of them." for each in found]


def _roadmaps(parts: list[pd.DataFrame], steps: Sequence[Step]) -> list[pd.DataFrame]:
    """The parts with at least two steps and half as many as the best part; none if they are too many."""
    covered = [sum(bool(mine) for mine in runs_of_steps(part, steps).values()) for part in parts]
    least = max(max(covered, default=0) / 2, 2)
    roadmaps = [part for part, count in zip(parts, covered, strict=True) if count >= least]
    return roadmaps if len(roadmaps) <= MAX_ROADMAPS else []


def comparable_parts(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """``runs`` in parts that differ in design, recipe and seed only, the largest first.

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
    """``runs`` in groups whose definitions are equal in ``names``."""
    keys = pd.Series(field_keys(runs["definition"], names), index=runs.index, dtype=object)
    return [group for _, group in runs.groupby(keys, sort=False)]


def _condition_names(parts: Sequence[pd.DataFrame]) -> list[str]:
    """What sets each part apart, such as ``epochs 30, recipe.optimizer.lr 0.004``."""
    if len(parts) < 2:
        return [""] * len(parts)
    own = [_shared([flatten_dict(defined) for defined in part["definition"]]) for part in parts]
    keys = [key for key in own[0] if all(key in values for values in own) and not key.startswith("design.")]
    differing = [key for key in keys if len({repr(values[key]) for values in own}) > 1]
    return [", ".join(f"{key} {values[key]}" for key in differing)[:120] for values in own]


def _shared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}


def train_command(overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """``roadmap train …`` for one run, quoted for a shell; ``seeds=`` belongs to `roadmap run`."""
    return _line("train", [word for word in overrides if key_of(word) != "seeds"], config_dirs)


def run_command(
    logged: Sequence[Sequence[str]],
    seeds: Sequence[int],
    steps: Sequence[Step],
    run_ids: set[str],
    config_dirs: Sequence[str],
) -> tuple[str, bool]:
    """``roadmap run …`` for the runs of a path, started with ``logged`` overrides, and whether it makes them all."""
    words = _shared_overrides(logged, steps)
    line = _line("run", [*words, f"seeds=[{','.join(map(str, seeds))}]"], config_dirs)
    return line, makes(words, config_dirs, seeds, run_ids)


def _shared_overrides(logged: Sequence[Sequence[str]], steps: Sequence[Step]) -> list[str]:
    """The overrides that all runs were started with, and those that choose regime, data and path."""
    composed = steps[0].composed
    first = steps[0].change  # in every run, without having been given
    shared = [word for word in logged[0] if all(word in other for other in logged)]
    shared = [word for word in shared if word not in first and key_of(word) not in ("step", "seed", "seeds")]
    kept = {key_of(word): word for word in shared}
    for key, name in (("regime", composed.regime.name), ("data", composed.data_name)):
        kept.setdefault(key, f"{key}={name}")
    if "path" not in kept and composed.path_name != "paper":
        kept["path"] = f"path={composed.choices['path']}"
    return list(kept.values())


def makes(overrides: Sequence[str], config_dirs: Sequence[str], seeds: Sequence[int], run_ids: set[str]) -> bool:
    """Whether the path composed with ``overrides`` contains all these runs.

    Overrides with interpolations are not composed, because those of third-party runs must not be resolved here.
    """
    if any("${" in word for word in overrides):
        return False
    try:
        steps = composed_path(tuple(overrides), tuple(config_dirs))
        made = {step.composed.with_seed(seed).experiment().run_id for step in steps for seed in seeds}
    except RequestError:
        return False
    return run_ids <= made


@lru_cache(maxsize=16)
def composed_path(overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> list[Step]:
    """The steps of a path; composing takes seconds, and several sections may have the same path."""
    return compose_path(overrides, config_dirs)


def _line(command: str, words: Sequence[str], config_dirs: Sequence[str]) -> str:
    return shlex.join(["roadmap", command, *words, *(part for d in config_dirs for part in ("--config-dir", d))])
