"""Composes overrides and the files of ``conf/`` with Hydra into checked records."""

from pathlib import Path


def config_dir() -> Path:
    """Return ``conf/``: inside an installed package, next to the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
