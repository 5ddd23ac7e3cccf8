"""The file of weights that a run starts from: where it is, and what it holds as a short text."""

import hashlib
from functools import cache
from pathlib import Path

from roadmap.errors import RequestError


def weights_file(pretrained: str) -> Path:
    """The file itself, or the last checkpoint of a run's folder. Raises RequestError where there is none."""
    path = Path(pretrained)
    file = path / "checkpoints" / "last.pt" if path.is_dir() else path
    if not file.is_file():
        wanted = "a run's folder has its checkpoint there" if path.is_dir() else "it wants weights or a run's folder"
        raise RequestError(f"pretrained={pretrained}: no file {file}; {wanted}")
    return file


def file_digest(file: Path) -> str:
    """SHA-256 of a file in hexadecimal digits; read once in a process. Raises RequestError where it cannot be read."""
    return _digest(file.resolve())


@cache
def _digest(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror}") from error
