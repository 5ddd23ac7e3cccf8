"""Hydra on ``conf/``: initialized with cached files, its errors as one sentence."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from traceback import walk_tb
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import roadmap.config.groups  # noqa: F401 - Hydra finds options there
from roadmap.config import config_dir
from roadmap.config.overrides import searchpath
from roadmap.config.trust import trusted
from roadmap.errors import RequestError, RoadmapError, first_line
from roadmap.formatting import listed

# Hydra's launchers that come with our extras.
EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


def _parse_once(load: Callable[[Any, str], ConfigResult]) -> Callable[[Any, str], ConfigResult]:
    """Return a config source's method that parses each file once: parsing takes a third of a composition."""
    parsed: dict[tuple[str, str, str, float], ConfigResult] = {}

    def load_config(self: ConfigSource, config_path: str) -> ConfigResult:
        file = os.path.join(self.path, self._normalize_file_name(config_path))
        changed = os.stat(file).st_mtime_ns if os.path.exists(file) else 0
        key = (self.provider, self.path, config_path, changed)
        if key not in parsed:
            parsed[key] = load(self, config_path)
        return deepcopy(parsed[key])  # Hydra removes the defaults list from it

    return load_config


# Each composition copies its sources, and with them the whole store, whose nodes are copied again when they are loaded.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
Plugins.instance()  # registers the sources
for scheme in ("file", "pkg"):
    source = SourcesRegistry.instance().types[scheme]
    source.load_config = _parse_once(source.load_config)  # type: ignore[method-assign, assignment]


@contextmanager
def initialized() -> Iterator[None]:
    """Initialize Hydra on ``conf/``; inside a Hydra application, the application's own Hydra is restored on exit."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


@contextmanager
def hydra_errors(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a RequestError of one sentence; configs are data meanwhile."""
    try:
        with trusted():
            yield
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError) as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        theirs = isinstance(error, HydraException | OmegaConfBaseException | YAMLError | RecursionError)
        theirs = theirs or frame.f_globals["__name__"].startswith(("hydra", "omegaconf", "codecs"))
        if isinstance(error, RoadmapError) or not theirs:
            raise
        raise RequestError(_unknown_option(error, overrides, config_dirs) or one_sentence(error)) from error


def _unknown_option(error: Exception, overrides: Sequence[str], config_dirs: Sequence[str]) -> str | None:
    """Return a sentence about the first override with an option that its group does not have."""
    if missing := re.search(rf"Could not find 'hydra/launcher/({'|'.join(EXTRAS)})'", str(error)):
        extra = f"pip install 'convnext-roadmap[{EXTRAS[missing[1]]}]'"
        return f"hydra/launcher={missing[1]} is a plugin that is not installed; {extra}"
    with initialized():
        loader = GlobalHydra.instance().config_loader()
        for word in overrides:
            if chosen := re.fullmatch(r"\+?([\w/]+)=([\w-]+)", word):
                options = loader.get_group_options(chosen[1], config_name="config", overrides=searchpath(config_dirs))
                # k9 before k11
                options.sort(key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(9), name))
                if options and chosen[2] not in (*options, "null"):
                    return f"unknown {chosen[1]} '{chosen[2]}' (choose {listed(options)})"
    return None


def one_sentence(error: Exception) -> str:
    """Return a message of Hydra or OmegaConf, which takes several lines, as one sentence."""
    text, cause = str(error), error.__cause__ or error
    if unknown := re.search(r"Could not override '([^']+)'", text):
        known = [str(name) for name in getattr(cause, "parent_node", None) or ()]
        alike = get_close_matches(unknown[1].rpartition(".")[2], known, n=1)
        return f"unknown setting '{unknown[1]}'" + (f" (choose {listed(alike or known)})" if known else "")
    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        quoted = f"quote a value with = in it: \"{name}='{value}'\"" if "=" in value else ""
        return f"invalid override '{error.override}' ({quoted or 'must be group=option or setting=value'})"
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]} is not set (add {missing[1]}=…)"
    # OmegaConf wraps what a resolver raises
    if raised := re.search(r"RequestError raised while resolving interpolation: (.+)", text):
        return raised[1]
    reason = f": {first_line(cause)}" if cause is not error else ""
    return f"invalid config: {' '.join(text.split())}{reason}"
