"""Where metrics go besides the run's folder, which stays the truth."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from roadmap.errors import first_line
from roadmap.records.experiment import Logger
from roadmap.tracking.background import Background, say
from roadmap.tracking.wandb_client import check_installed

END_SECONDS = 60.0  # for all that is not yet sent when the program ends


class MetricsLogger(Protocol):
    """Takes each epoch's row and, when the run has ended well or badly, its summary."""

    def log(self, row: dict[str, Any]) -> None: ...

    def close(self, summary: dict[str, Any]) -> None: ...


class NoLogger:
    """The run's folder alone."""

    def log(self, row: dict[str, Any]) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


def _leave_wandb() -> None:
    from roadmap.tracking.wandb_client import leave_client

    leave_client()


def _give_up() -> None:
    with suppress(Exception):
        _leave_wandb()


background = Background("wandb", END_SECONDS, _give_up)


class Behind:
    """A logger that is opened and fed in the background. Once it fails it is named on stderr, left and done without."""

    def __init__(self, name: str, start: Callable[[], MetricsLogger], leave: Callable[[], None]):
        self.name, self.leave = name, leave
        self.logger: MetricsLogger = NoLogger()
        self._do(lambda: self._open(start))

    def log(self, row: dict[str, Any]) -> None:
        self._do(lambda: self.logger.log(row))

    def close(self, summary: dict[str, Any]) -> None:
        self._do(lambda: self.logger.close(summary))

    def _open(self, start: Callable[[], MetricsLogger]) -> None:
        self.logger = start()

    def _do(self, act: Callable[[], None]) -> None:
        background.do(lambda: self._try(act))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        # whatever a service comes up with must not stop training
        except Exception as error:
            say(f"logging to {self.name} failed ({first_line(error)}); going on with the run's own files")
            self.logger = NoLogger()
            with suppress(Exception):
                self.leave()


def open_logger(
    settings: Logger, summary: dict[str, Any], folder: Path, rows: Sequence[dict[str, Any]]
) -> MetricsLogger:
    """The logger that a run asks for; ``rows`` is what it logged before this start. Does not wait for any service.

    Raises RequestError where its package is missing.
    """
    if settings.name == "local":
        return NoLogger()
    check_installed("logger=wandb")
    logged = list(rows)

    def start() -> MetricsLogger:
        from roadmap.tracking.wandb_logger import WandbRun

        return WandbRun(settings, summary, folder, logged)

    return Behind("wandb", start, _leave_wandb)
