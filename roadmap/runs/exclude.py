"""Records that lie below others and are not meant with them: the example runs in ``runs/``, an archive."""

from functools import cache
from pathlib import Path

APART = ".apart"  # a folder with a file of this name is read only when it is named itself


def files_below(named: Path, pattern: str) -> list[Path]:
    """The files below a named folder that match ``**/pattern``, in order, without those of folders set apart."""

    @cache
    def apart(folder: Path) -> bool:
        return folder != named and ((folder / APART).exists() or apart(folder.parent))

    return sorted(file for file in named.rglob(pattern) if not apart(file.parent))
