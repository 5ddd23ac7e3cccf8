"""Where the config files are."""

from pathlib import Path


def config_dir() -> Path:
    """``conf/``: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
