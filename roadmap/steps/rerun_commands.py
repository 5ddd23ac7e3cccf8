"""The command lines that make the runs of a page again."""

import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from roadmap.errors import RequestError
from roadmap.runs.records import read_text
from roadmap.steps.path import PathRow, Step, compose_path
from roadmap.untrusted_io import parse_yaml

WORD = re.compile(r"[+~]*\w[\w./@:-]*=")


def logged_overrides(folder: str) -> tuple[str, ...] | None:
    """The overrides that a run was started with, or None where its folder does not say, or has other words there."""
    try:
        overrides = parse_yaml(read_text(Path(folder, ".hydra", "overrides.yaml")))
    except (OSError, ValueError):
        return None
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        return None
    # an option among them would be one of the command that is shown
    if not all(WORD.match(override) for override in overrides):
        return None
    return tuple(overrides)


def train_command(overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """``roadmap train …`` for one run, quoted for a shell; ``seeds=`` belongs to `roadmap run`."""
    return _line("train", [word for word in overrides if _key(word) != "seeds"], config_dirs)


def shared_overrides(runs: Sequence[Sequence[str]], seeds: Sequence[int], steps: Sequence[Step]) -> list[str]:
    """Overrides of `roadmap run` for the runs of a path: what all were started with, regime, data, path and seeds.

    What the path's first row sets is in every run without having been asked for.
    """
    values = steps[0].composed.values
    first = PathRow.from_entry(values["path"]["steps"][0]).change
    shared = [word for word in runs[0] if all(word in other for other in runs)] if runs else []
    kept = {_key(word): word for word in shared if word not in first and _key(word) not in ("step", "seed", "seeds")}
    # what the steps were composed with here, such as a path of the user's own
    kept |= {key: f"{key}={values[key]['name']}" for key in ("regime", "data") if key not in kept}
    if "path" not in kept and values["path"]["name"] != "paper":
        kept["path"] = f"path={steps[0].composed.choices['path']}"
    return [*kept.values(), f"seeds=[{','.join(map(str, seeds))}]"]


def run_command(overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """``roadmap run …`` for a path, quoted for a shell."""
    return _line("run", overrides, config_dirs)


def makes(overrides: Sequence[str], config_dirs: Sequence[str], seeds: Sequence[int], run_ids: set[str]) -> bool:
    """Whether a path that is composed here with ``overrides`` has all of these runs among its own.

    Where they have interpolations it is not composed: those of another's run are nothing to be resolved here.
    """
    if any("${" in word for word in overrides):
        return False
    try:
        # the seeds are no part of what is composed
        steps = composed_path(tuple(word for word in overrides if _key(word) != "seeds"), tuple(config_dirs))
        made = {step.composed.with_seed(seed).experiment().run_id for step in steps for seed in seeds}
    except RequestError:
        return False
    return run_ids <= made


@lru_cache(maxsize=16)
def composed_path(overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> list[Step]:
    """Composing a path takes seconds, and several sets of runs may have the same."""
    return compose_path(overrides, config_dirs)


def _line(command: str, words: Sequence[str], config_dirs: Sequence[str]) -> str:
    return shlex.join(["roadmap", command, *words, *(part for d in config_dirs for part in ("--config-dir", d))])


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
