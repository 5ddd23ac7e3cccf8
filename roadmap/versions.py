"""This package's version, and the versions that every record carries."""

from importlib.metadata import version

DISTRIBUTION = "convnext-roadmap"
__version__ = version(DISTRIBUTION)


def package_versions() -> dict[str, str]:
    """Return the installed versions of roadmap, torch and torchvision."""
    return {"roadmap": __version__, "torch": version("torch"), "torchvision": version("torchvision")}
