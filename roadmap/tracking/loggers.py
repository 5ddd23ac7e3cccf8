"""Loggers that receive a run's metrics in addition to its folder, which stays the authoritative copy."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from roadmap.errors import first_line
from roadmap.schema.experiment import Logger
from roadmap.tracking.background import Background
from roadmap.tracking.wandb_client import check_installed, leave_client

logger = logging.getLogger(__name__)

END_SECONDS = 60.0  # for everything that is still unsent when the program ends


class MetricsLogger(Protocol):
    """Receives each epoch's row and, once the run has ended, its summary."""

    def log(self, row: dict[str, Any]) -> None: ...

    def close(self, summary: dict[str, Any]) -> None: ...


class NoLogger:
    """Logs nothing: the run's folder alone."""

    def log(self, row: dict[str, Any]) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


def _leave_client() -> None:
    # the client is already known to hang or to have failed
    with suppress(Exception):
        leave_client()


background = Background("wandb", END_SECONDS, _leave_client)


class AsyncLogger:
    """Opens and feeds a W&B logger on the background thread, and goes on without it after its first failure."""

    def __init__(self, start: Callable[[], MetricsLogger]):
        self.logger: MetricsLogger = NoLogger()
        self._submit(lambda: self._open(start))

    def log(self, row: dict[str, Any]) -> None:
        self._submit(lambda: self.logger.log(row))

    def close(self, summary: dict[str, Any]) -> None:
        self._submit(lambda: self.logger.close(summary))

    def _open(self, start: Callable[[], MetricsLogger]) -> None:
        self.logger = start()

    def _submit(self, task: Callable[[], None]) -> None:
        background.submit(lambda: self._try(task))

    def _try(self, task: Callable[[], None]) -> None:
        try:
            task()
        # no error of a logging service may stop training
        except Exception as error:
            logger.warning(f"logging to wandb failed ({first_line(error)}); continuing with the run's own files")
            self.logger = NoLogger()
            _leave_client()


def open_logger(settings: Logger, summary: dict[str, Any], folder: Path) -> MetricsLogger:
    """Return the logger that a run asks for, without waiting for any service.

    Raises RequestError if its package is missing.
    """
    if settings.name == "local":
        return NoLogger()
    check_installed("logger=wandb")

    def start() -> MetricsLogger:
        from roadmap.tracking.wandb_logger import WandbRun

        return WandbRun(settings, summary, folder)

    return AsyncLogger(start)
