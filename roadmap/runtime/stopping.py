"""Requests to stop: Ctrl-C, a scheduler's signals, the end of the process that started this one as its worker."""

import os
import signal
import threading
from multiprocessing import parent_process
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals
from types import FrameType

WARNINGS = (SIGUSR1, SIGUSR2)  # of a time limit; the second is submitit's
SIGNALS = (SIGINT, SIGTERM, *WARNINGS)


class StopRequest:
    """While entered, a signal is noted for the trainer to find; a second Ctrl-C stops at once.

    A warning stays noted whatever follows it: when the time is up SIGTERM does, and whoever hands the warning on must
    still find it. It may be entered within itself.
    """

    def __init__(self) -> None:
        self.noted: Signals | None = None
        self.interrupted = False
        self.entered = 0
        self.before: dict[Signals, signal._HANDLER] = {}
        self.parent = parent_process()  # None unless Python's multiprocessing, or joblib, started this process

    @property
    def signal(self) -> Signals | None:
        """The signal that came, SIGHUP where this worker is the last that is left of its program; None: go on."""
        if self.noted is None and self.parent is not None and os.getppid() != self.parent.pid:
            self.noted = SIGHUP
        return self.noted

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if number == SIGINT and self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.interrupted or number == SIGINT
        if self.noted not in WARNINGS:
            self.noted = Signals(number)

    def __enter__(self) -> "StopRequest":
        self.entered += 1
        # signals are the main thread's; a launcher may run jobs in others
        if self.entered == 1 and threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self.entered -= 1
        if not self.entered:
            for number, handler in self.before.items():
                signal.signal(number, handler)
            self.before = {}
