"""Configs are data: what Hydra or Python's logging would call is refused unless it is allow-listed.

Configs are checked after Hydra has composed them and before it instantiates anything, so the check covers the command
line, files of ``--config-dir`` and the files that they include. docs/security.md lists what is allowed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import hydra as hydras_own
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from roadmap.errors import RequestError

TARGETS = re.compile(
    r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)"
    r"|hydra_plugins\.hydra_joblib_launcher\.joblib_launcher\.JoblibLauncher"
    r"|hydra_plugins\.hydra_submitit_launcher\.submitit_launcher\.(Local|Slurm)Launcher"
    r"|hydra_plugins\.hydra_ray_launcher\.ray_launcher\.RayLauncher"
)
# Interpolations that make a config of text, which would come into being later than this check; or that may, since
# their resolver's name is put together only then.
MADE_LATER = re.compile(r"oc\s*\.\s*(create|decode)|\$\{.*_target_|\$\{[^:}]*\$\{", re.DOTALL)
# Logging would import and call what its config names, environment variables choose which programs git and Python are,
# and the last two are folders to write to.
NO_LOGGING = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": False}
FIXED: dict[str, dict[str, Any]] = {
    "": {"callbacks": {}, "job_logging": NO_LOGGING, "hydra_logging": NO_LOGGING, "output_subdir": None},
    "job.": {"env_set": {}},
    "run.": {"dir": "."},
}


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
    _check(values, "")
    for node, settings in FIXED.items():
        for key, own in settings.items():
            value = (values["hydra"][node[:-1]] if node else values["hydra"]).get(key, own)
            if value != own and not (isinstance(value, dict) and value.items() <= (own or {}).items()):
                raise RequestError(f"hydra.{node}{key} cannot be changed; leave it out")


def _check(value: Any, place: str) -> None:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check(item, f"{place}.{key}".lstrip("."))
    elif place.endswith("_target_") and not TARGETS.fullmatch(str(value)):
        raise RequestError(
            f"{place}={value} would be called, and configs are data here: only Hydra's launchers and its basic sweeper "
            "are accepted there"
        )
    elif isinstance(value, str) and MADE_LATER.search(value):
        raise RequestError(f"{place}={value} makes a config of text, which could have code called; write it out")
