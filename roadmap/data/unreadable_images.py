"""The images of a run that could not be read."""

import logging

from roadmap.errors import WorkError

logger = logging.getLogger(__name__)


class UnreadableImages:
    """Names and reasons in ``found``; one more than ``limit`` is a WorkError."""

    def __init__(self, limit: int):
        self.limit = limit
        self.found: dict[str, str] = {}

    def note(self, name: str, reason: str) -> None:
        """Count an image, and say so the first time. Raises WorkError where it is one too many."""
        if name in self.found:
            return
        self.found[name] = reason
        self._check(name)
        logger.warning(f"cannot read image {name}: {reason}; continuing without it")

    def merge(self, found: dict[str, str]) -> None:
        """Take over what other processes found, or a checkpoint holds."""
        self.found |= found
        if found:
            self._check(next(reversed(found)))

    def _check(self, name: str) -> None:
        if len(self.found) > self.limit:
            others = f", after {len(self.found) - 1} others," if len(self.found) > 1 else ""
            raise WorkError(
                f"cannot read image {name}{others}: {self.found[name]}; "
                f"mend or remove it, or allow more than data.max_corrupt={self.limit}"
            )
