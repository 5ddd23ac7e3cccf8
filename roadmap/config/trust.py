"""Configs are data: what of them Hydra would call is refused unless it is a launcher or a sweeper that we know."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from roadmap.errors import RequestError

# Key of a config -> what may stand there: Hydra makes an object of it, or Python's logging does.
CALLED = {
    "_target_": re.compile(
        r"hydra\._internal\.core_plugins\.\w+\.\w+"
        r"|hydra_plugins\.hydra_(joblib_launcher|submitit_launcher|ray_launcher|optuna_sweeper)(\.\w+)+"
        r"|optuna\.samplers\.\w+|roadmap\.sweeps\.trials\.(nsgaii|tpe)"
    ),
    "custom_search_space": re.compile(r"roadmap\.sweeps\.trials\.note|null|None"),
    "class": re.compile(r"logging(\.handlers)?\.\w+"),
    "()": re.compile(r"colorlog\.ColoredFormatter"),
}
WORD = re.compile(r"(?:^|[.{,\s'\"])(_target_|custom_search_space|class|\(\))['\"]?\s*[:=]\s*['\"]?([^,}\s'\"]*)")


def check_trusted(overrides: Sequence[str], config_dirs: Sequence[str]) -> None:
    """Raises RequestError where an override or a file of a folder of configs names something else to be called."""
    for word in overrides:
        for key, value in WORD.findall(word):
            _check(key, value, f"'{word}'")
        if word.lstrip("+").startswith("hydra.searchpath"):
            raise RequestError(f"'{word}' adds folders of configs unseen; name each by --config-dir")
    for folder in config_dirs:
        for file in sorted(path for path in Path(folder).rglob("*.y*ml") if path.is_file()):
            for key, value in _called(_content(file)):
                _check(key, value, str(file))


def _check(key: str, value: object, place: str) -> None:
    if not CALLED[key].fullmatch(str(value)):
        raise RequestError(
            f"{place} would have {key}={value} called; configs are data here: only Hydra's launchers and sweepers, "
            "Optuna's samplers and logging's handlers may stand there"
        )


def _content(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # Hydra cannot read it either, and says so better


def _called(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of ``CALLED`` in nested values, with what stands there."""
    if isinstance(value, dict):
        yield from ((key, item) for key, item in value.items() if key in CALLED)
        for item in value.values():
            yield from _called(item)
    elif isinstance(value, list):
        for item in value:
            yield from _called(item)
