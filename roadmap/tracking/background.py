"""A background thread for tasks that must not delay training; the program's end waits for it for a limited time."""

import concurrent.futures.thread  # noqa: F401  a task cannot import it any more once the main thread has ended
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


NOTICE_SECONDS = 3.0  # a wait at the program's end is announced after this long


class Background:
    """Runs tasks one after the other on a thread of its own.

    At the program's end, tasks that are still queued get ``seconds``; then ``give_up`` is called. ``name`` is the
    service that they talk to, for messages.
    """

    def __init__(self, name: str, seconds: float, give_up: Callable[[], None]):
        self.name, self.seconds, self.give_up = name, seconds, give_up
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
        if not self.started:
            return True
        done = threading.Event()
        self.tasks.put(done.set)
        return done.wait(seconds)

    def end(self) -> None:
        """Wait until all tasks are done, the time is up or the user presses Ctrl-C."""
        try:
            if self.drain(NOTICE_SECONDS):
                return
            logger.warning(f"waiting up to {self.seconds:.0f} s for {self.name}; Ctrl-C skips it")
            if self.drain(self.seconds):
                return
        except KeyboardInterrupt:
            pass
        logger.warning(f"{self.name} has not received everything; the run folders are complete")
        self.give_up()
        self._reset()

    def _work(self) -> None:
        tasks = self.tasks
        while True:
            tasks.get()()

    def _end(self) -> None:
        threading.main_thread().join()
        self.end()
