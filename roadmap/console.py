"""Shows the package's log messages on stderr. Only the command line does; in Python, logging is the caller's."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from roadmap.formatting import printable


class ConsoleHandler(logging.Handler):
    """Writes messages to the current stderr; warnings and errors begin with ``roadmap: ``."""

    def emit(self, record: logging.LogRecord) -> None:
        text, rank = printable(self.format(record)), os.environ.get("RANK", "0")
        if record.levelno >= logging.WARNING:
            text = f"roadmap: {text}" if rank == "0" else f"roadmap, process {rank}: {text}"
        print(text, file=sys.stderr, flush=True)


@contextmanager
def console(level: int | None) -> Iterator[None]:
    """Show messages of at least ``level`` on stderr; None changes nothing. Ranks after the first only warn."""
    if level is None:
        yield
        return
    logger = logging.getLogger("roadmap")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(level if os.environ.get("RANK", "0") == "0" else max(level, logging.WARNING))
    # else Hydra's own handlers, which write to stdout, show everything again
    logger.propagate, logger.handlers = False, [ConsoleHandler()]
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


def console_level() -> int | None:
    """Return the level of messages that are shown, None outside of ``console``: for worker processes to inherit."""
    logger = logging.getLogger("roadmap")
    return logger.level if any(isinstance(handler, ConsoleHandler) for handler in logger.handlers) else None
