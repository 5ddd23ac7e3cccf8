"""One thread for what must not keep training waiting: acts are done in order, and a program's end is bounded."""

import concurrent.futures.thread  # noqa: F401  cannot be imported any more by an act once the main thread has ended
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue


class Background:
    """Does acts one after the other, in a thread of its own that lives as long as the program.

    When the main thread has ended, what is left gets ``seconds``; then ``give_up`` is called and the program ends.
    """

    def __init__(self, seconds: float, give_up: Callable[[], None]):
        self.seconds, self.give_up = seconds, give_up
        self._fresh()
        # a forked process has its parent's queue and none of its threads
        os.register_at_fork(after_in_child=self._fresh)

    def _fresh(self) -> None:
        self.acts: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.started = False

    def do(self, act: Callable[[], None]) -> None:
        """Add an act, which must not raise; returns at once."""
        if not self.started:
            self.started = True
            threading.Thread(target=self._work, daemon=True, name="roadmap background").start()
            # not a daemon: Python waits for it before anything is torn down, in the children of multiprocessing too
            threading.Thread(target=self._end, name="roadmap background's end").start()
        self.acts.put(act)

    def drain(self, seconds: float) -> bool:
        """Wait until all acts so far are done; whether they were in time."""
        if not self.started:
            return True
        done = threading.Event()
        self.acts.put(done.set)
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            self.acts.get()()

    def _end(self) -> None:
        threading.main_thread().join()
        if not self.drain(self.seconds):
            self.give_up()


def say(text: str) -> None:
    """A line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)
