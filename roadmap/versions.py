"""This package's version, and the versions and commit that every record carries."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

DISTRIBUTION = "convnext-roadmap"
__version__ = version(DISTRIBUTION)


def package_versions() -> dict[str, str]:
    """Return the installed versions of roadmap, torch and torchvision."""
    return {"roadmap": __version__, "torch": version("torch"), "torchvision": version("torchvision")}


@cache
def git_commit() -> str | None:
    """Return the commit of this code, or None outside a git checkout."""
    checkout = Path(__file__).parent.parent
    # an installed package may lie inside the checkout of another project
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
