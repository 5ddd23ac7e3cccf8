"""Where the config files are, and which of them a group has."""

from pathlib import Path

from roadmap.schema.design import ADDED_AXES


def config_dir() -> Path:
    """``conf/``: inside an installed package, next to the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def group_options(group: str) -> set[str]:
    """The names that ``group=`` takes without folders of the user's own; none where it is no group."""
    added = ADDED_AXES[group].options if group in ADDED_AXES else ()
    return {file.stem for file in (config_dir() / group).glob("*.yaml") if group} | {*added}
