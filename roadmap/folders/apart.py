"""Records that lie below others and are not meant with them: the example runs in ``runs/``, an archive."""

from pathlib import Path

APART = ".apart"  # a folder with a file of this name is read only when it is named itself


def is_apart(path: Path, named: Path) -> bool:
    """Whether a folder between ``named`` and ``path`` is set apart."""
    return any((folder / APART).exists() for folder in path.parents if named in folder.parents)
