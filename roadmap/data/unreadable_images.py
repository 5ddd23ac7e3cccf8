"""The images of a run that cannot be read."""

import logging

from roadmap.errors import WorkError

logger = logging.getLogger(__name__)


class UnreadableImages:
    """Collects the names and reasons of unreadable images in ``found``; more than ``limit`` raise WorkError."""

    def __init__(self, limit: int):
        self.limit = limit
        self.found: dict[str, str] = {}

    def note(self, name: str, reason: str) -> None:
        """Record an image, with a warning the first time. Raises WorkError beyond the limit."""
        if name in self.found:
            return
        self.found[name] = reason
        self._check(name)
        logger.warning(f"cannot read image {name}: {reason}; continuing without it")

    def merge(self, found: dict[str, str]) -> None:
        """Add the images that other processes, or a checkpoint, recorded. Raises WorkError beyond the limit."""
        self.found |= found
        if found:
            self._check(next(reversed(found)))

    def _check(self, name: str) -> None:
        if len(self.found) > self.limit:
            others = f", after {len(self.found) - 1} others," if len(self.found) > 1 else ""
            raise WorkError(
                f"cannot read image {name}{others}: {self.found[name]}; "
                f"repair or remove it, or raise data.max_corrupt (now {self.limit})"
            )
