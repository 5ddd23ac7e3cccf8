"""One thread for what must not keep training waiting: acts are done in order, and a program's end is bounded."""

import concurrent.futures.thread  # noqa: F401  cannot be imported any more by an act once the main thread has ended
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

from roadmap.textual import printable

PATIENCE = 3.0  # seconds before a wait at the end is announced


class Background:
    """Does acts one after the other, in a thread of its own that lives as long as the program.

    At the program's end what is left gets ``seconds``; then ``give_up`` is called. ``name`` is whose acts they are.
    """

    def __init__(self, name: str, seconds: float, give_up: Callable[[], None]):
        self.name, self.seconds, self.give_up = name, seconds, give_up
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

    def end(self) -> None:
        """Wait until all acts are done, within bounds, and for no longer than a user does."""
        try:
            if self.drain(PATIENCE):
                return
            say(f"{self.name} is not done yet; it gets {self.seconds:.0f} s, Ctrl-C leaves it")
            if self.drain(self.seconds):
                return
        except KeyboardInterrupt:
            pass
        say(f"{self.name} has not taken everything; the runs' own files have it all")
        self.give_up()
        self._fresh()

    def _work(self) -> None:
        acts = self.acts
        while True:
            acts.get()()

    def _end(self) -> None:
        threading.main_thread().join()
        self.end()


def say(text: str) -> None:
    """A line on stderr, at once."""
    print(printable(text), file=sys.stderr, flush=True)
