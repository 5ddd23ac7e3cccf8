"""Configs are data: callables that Hydra or Python's logging would call are refused unless they are allow-listed.

Configs are checked after Hydra has composed them and before it instantiates anything, so the check covers the command
line, files of ``--config-dir`` and the files that they include. docs/security.md lists what is allowed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import hydra as hydras_own
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from roadmap.errors import RequestError

# Hydra's launchers and its basic sweeper.
TARGETS = re.compile(
    r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)"
    r"|hydra_plugins\.hydra_joblib_launcher\.joblib_launcher\.JoblibLauncher"
    r"|hydra_plugins\.hydra_submitit_launcher\.submitit_launcher\.(Local|Slurm)Launcher"
    r"|hydra_plugins\.hydra_ray_launcher\.ray_launcher\.RayLauncher"
)
# Python's logging calls what stands at these keys, writes to the file, and imports what follows ext://.
LOGGING = {
    "()": re.compile(r"colorlog\.ColoredFormatter"),
    "class": re.compile(r"logging\.(StreamHandler|FileHandler|NullHandler|Formatter)"),
    "filename": re.compile(re.escape("${hydra.runtime.output_dir}/${hydra.job.name}.log")),
    "stream": re.compile(r"ext://sys\.std(out|err)"),
}
LOGGING_NODES = ("hydra.job_logging", "hydra.hydra_logging")
# Any other could choose which program git is, or what Python imports.
ENVIRONMENT = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|CUDA_VISIBLE_DEVICES|WANDB_MODE|NCCL_(DEBUG|\w+_(IFNAME|DISABLE))"
)
# Interpolations that make a config of text, which would come into being later than this check; or that may, since
# their resolver's name is put together only then.
MADE_LATER = re.compile(r"oc\s*\.\s*(create|decode)|\$\{.*_target_|\$\{[^:}]*\$\{", re.DOTALL)


class TrustedLoader(ConfigLoaderImpl):
    """Hydra's loader with ``check_trusted`` on every config."""

    def load_configuration(self, *arguments: Any, **options: Any) -> DictConfig:
        """Return a composed config, of a multirun job too. Raises RequestError for a callable that is not allowed."""
        config = super().load_configuration(*arguments, **options)
        check_trusted(config)
        return config


@contextmanager
def trusted() -> Iterator[None]:
    """Make Hydra check every config that it loads, in the processes of its launchers too."""
    before = hydras_own.ConfigLoaderImpl
    hydras_own.ConfigLoaderImpl = TrustedLoader  # type: ignore[misc]
    try:
        yield
    finally:
        hydras_own.ConfigLoaderImpl = before  # type: ignore[misc]


def check_trusted(config: DictConfig) -> None:
    """Raise RequestError, with key and value, if a composed config names a callable that is not allowed."""
    values: Any = OmegaConf.to_container(config, resolve=False)
    for place, key, value in _leaves(values, ""):
        _check(place, key, value)
    _check_hydra(values["hydra"])


def _check_hydra(hydra: dict[str, Any]) -> None:
    """Check Hydra's own node: file names, callbacks and environment variables."""
    variables = hydra["job"].get("env_set") or {}
    if not isinstance(variables, dict):
        raise RequestError(f"hydra.job.env_set={variables} is not supported; write out its values")
    if not isinstance(hydra.get("verbose"), bool | str | list):
        raise RequestError(f"hydra.verbose={hydra.get('verbose')} is not supported (choose true or false)")
    if hydra.get("callbacks"):
        name = next(iter(hydra["callbacks"]))
        raise RequestError(f"hydra.callbacks.{name} would have code called, and configs are data here; leave it out")
    if re.search(r"[^\w.+=-]|^\.\.?$", str(hydra.get("output_subdir") or "")):
        raise RequestError(
            f"hydra.output_subdir={hydra['output_subdir']} is no name of a folder; leave it out: runs have .hydra"
        )
    if re.search(r"[^\w.+=-]", str(hydra["job"].get("name"))):
        raise RequestError(f"hydra.job.name={hydra['job']['name']} is no name; letters, digits, . + = - make one")
    for name, value in variables.items():
        if not ENVIRONMENT.fullmatch(str(name)) and os.environ.get(str(name)) != value:
            raise RequestError(
                f"hydra.job.env_set.{name} could have other programs called than are meant here; "
                f"set it in the shell instead: {name}=… roadmap …"
            )


def _check(place: str, key: str, value: Any) -> None:
    """Check one value of a config."""
    text = str(value)
    known = TARGETS if key == "_target_" else None
    if place.startswith(LOGGING_NODES):
        known = LOGGING.get(key)
        if known is None and ("${" in text or "://" in text or key == "mode"):
            raise RequestError(f"{place}={text} could have code called; choose Hydra's own hydra/job_logging=default")
    if known is not None and not known.fullmatch(text):
        raise RequestError(
            f"{place}={text} would be called, and configs are data here: only Hydra's launchers, its basic "
            "sweeper and logging's handlers are accepted there"
        )
    if isinstance(value, str) and MADE_LATER.search(value):
        raise RequestError(f"{place}={text} makes a config of text, which could have code called; write it out")


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Yield dotted path, last key and value of every leaf of nested mappings and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield place, place.rpartition(".")[2], value
        return
    for key, item in inner:
        if key == "_target_" and isinstance(item, dict | list):
            yield f"{place}.{key}".strip("."), str(key), item
        yield from _leaves(item, f"{place}.{key}".lstrip("."))
