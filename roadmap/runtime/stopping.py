"""Requests to stop: Ctrl-C, signals of a scheduler, the death of the parent of a worker."""

import os
import signal
import threading
from multiprocessing import parent_process
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals
from types import FrameType

WARNINGS = (SIGUSR1, SIGUSR2)  # of a time limit; SIGUSR2 is submitit's
SIGNALS = (SIGINT, SIGTERM, *WARNINGS)


class StopRequest:
    """Catches signals while entered, for the trainer to check; a second Ctrl-C raises KeyboardInterrupt. Reentrant.

    A warning is kept when SIGTERM follows at the end of the time limit, since the warning is what submitit handles.
    """

    def __init__(self) -> None:
        self.noted: Signals | None = None
        self.interrupted = False
        self.entered = 0
        self.before: dict[Signals, signal._HANDLER] = {}
        self.parent = parent_process()  # None unless multiprocessing or joblib started this process

    @property
    def signal(self) -> Signals | None:
        """Return the signal that was caught, SIGHUP if the parent of this worker has died, or None."""
        if self.noted is None and self.parent is not None and os.getppid() != self.parent.pid:
            self.noted = SIGHUP
        return self.noted

    def note(self, number: int, frame: FrameType | None) -> None:
        if number == SIGINT and self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.interrupted or number == SIGINT
        if self.noted not in WARNINGS:
            self.noted = Signals(number)

    def __enter__(self) -> "StopRequest":
        self.entered += 1
        # only the main thread can handle signals; a launcher may run jobs in other threads
        if self.entered == 1 and threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self.entered -= 1
        if not self.entered:
            for number, handler in self.before.items():
                signal.signal(number, handler)
            self.before = {}
