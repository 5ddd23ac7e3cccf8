"""Where the config files are, and which of them a group has."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from roadmap.schema.design import ADDED_AXES


def config_dir() -> Path:
    """``conf/``: inside an installed package, next to the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@cache
def named_networks() -> dict[str, dict[str, dict[str, Any]]]:
    """Return group -> option -> entry of ``conf/networks.yaml``."""
    return dict(yaml.safe_load((config_dir() / "networks.yaml").read_text(encoding="utf-8")))


def group_options(group: str) -> set[str]:
    """The names that ``group=`` takes without folders of the user's own; none where it is no group."""
    added = ADDED_AXES[group].options if group in ADDED_AXES else named_networks().get(group, ())
    return {file.stem for file in (config_dir() / group).glob("*.yaml") if group} | {*added}
