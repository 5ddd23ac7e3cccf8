"""The command lines that reproduce the runs of a report."""

import shlex
from collections.abc import Sequence
from functools import lru_cache

from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.steps.path import Step, compose_path


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
    words = _shared(logged, steps)
    line = _line("run", [*words, f"seeds=[{','.join(map(str, seeds))}]"], config_dirs)
    return line, makes(words, config_dirs, seeds, run_ids)


def _shared(logged: Sequence[Sequence[str]], steps: Sequence[Step]) -> list[str]:
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
