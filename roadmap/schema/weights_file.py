"""The weights file that a run starts from: its path and its digest."""

import hashlib
from functools import cache
from pathlib import Path

from roadmap.errors import RequestError


def weights_file(pretrained: str) -> Path:
    """Return the file, or the last checkpoint of a run folder. Raises RequestError if there is none."""
    path = Path(pretrained)
    file = path / "checkpoints" / "last.pt" if path.is_dir() else path
    if not file.is_file():
        hint = "a run folder has its checkpoint there" if path.is_dir() else "choose a weights file or a run folder"
        raise RequestError(f"pretrained={pretrained}: no file {file}; {hint}")
    return file


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; cached. Raises RequestError if the file cannot be read."""
    return _digest(file.resolve())


@cache
def _digest(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
