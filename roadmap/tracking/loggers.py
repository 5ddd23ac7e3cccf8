"""Loggers that receive a run's metrics in addition to its folder, which stays the authoritative copy.

Weights & Biases is fed by a background thread, so that training does not wait for it; the program's end does, for a
limited time.
"""

import concurrent.futures.thread  # noqa: F401  a task cannot import it any more once the main thread has ended
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from roadmap.errors import first_line
from roadmap.schema.experiment import Logger
from roadmap.tracking.wandb_logger import MetricsLogger, WandbRun, check_installed, leave_client

logger = logging.getLogger(__name__)

NOTICE_SECONDS = 3.0  # a wait at the program's end is announced after this long
END_SECONDS = 60.0  # for everything that is still unsent when the program ends


class Background:
    """Runs tasks one after the other on a thread of its own."""

    def __init__(self) -> None:
        self._reset()
        # a forked process inherits the queue but not the threads
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.started = False

    def submit(self, task: Callable[[], None]) -> None:
        """Queue a task, which must not raise; returns at once."""
        if not self.started:
            self.started = True
            threading.Thread(target=self._work, daemon=True, name="roadmap background").start()
            # not a daemon: Python waits for it before tearing anything down, in children of multiprocessing too
            threading.Thread(target=self._end, name="roadmap background's end").start()
        self.tasks.put(task)

    def drain(self, seconds: float) -> bool:
        """Wait until all tasks queued so far are done; return whether they finished in time."""
        done = threading.Event()
        if self.started:
            self.tasks.put(done.set)
        return not self.started or done.wait(seconds)

    def end(self) -> None:
        """Wait until all tasks are done, the time is up or the user presses Ctrl-C."""
        with suppress(KeyboardInterrupt):
            if self.drain(NOTICE_SECONDS):
                return
            logger.warning(f"waiting up to {END_SECONDS:.0f} s for wandb; Ctrl-C skips it")
            if self.drain(END_SECONDS):
                return
        logger.warning("wandb has not received everything; the run folders are complete")
        leave_client()
        self._reset()

    def _work(self) -> None:
        tasks = self.tasks
        while True:
            tasks.get()()

    def _end(self) -> None:
        threading.main_thread().join()
        self.end()


background = Background()


class AsyncLogger(MetricsLogger):
    """Opens and feeds a W&B run on the background thread, and goes on without it after its first failure."""

    def __init__(self, start: Callable[[], MetricsLogger]):
        self.logger = MetricsLogger()
        self._submit(lambda: setattr(self, "logger", start()))

    def log(self, row: dict[str, Any]) -> None:
        self._submit(lambda: self.logger.log(row))

    def close(self, summary: dict[str, Any]) -> None:
        self._submit(lambda: self.logger.close(summary))

    def _submit(self, task: Callable[[], None]) -> None:
        background.submit(lambda: self._try(task))

    def _try(self, task: Callable[[], None]) -> None:
        try:
            task()
        # no error of a logging service may stop training
        except Exception as error:
            logger.warning(f"logging to wandb failed ({first_line(error)}); continuing with the run's own files")
            self.logger = MetricsLogger()
            leave_client()


def open_logger(settings: Logger, summary: dict[str, Any], folder: Path) -> MetricsLogger:
    """Return the logger that a run asks for, without waiting for any service.

    Raises RequestError if its package is missing.
    """
    if settings.name == "local":
        return MetricsLogger()
    check_installed("logger=wandb")
    return AsyncLogger(lambda: WandbRun(settings, summary, folder))
