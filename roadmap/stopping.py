"""Requests to stop: Ctrl-C, and the signals with which a scheduler says that a job's time is over."""

import signal
import threading
from types import FrameType

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # the second is submitit's
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)


class StopRequest:
    """While entered, a signal is noted in ``signal`` for the trainer to find; a second Ctrl-C stops at once.

    A scheduler's warning stays noted whatever follows it: when the time is up SIGTERM does, and whoever hands the
    warning on must still find it.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.interrupted = False
        self.before: dict[signal.Signals, signal._HANDLER] = {}

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if number == signal.SIGINT and self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.interrupted or number == signal.SIGINT
        if self.signal not in WARNINGS:
            self.signal = signal.Signals(number)

    def __enter__(self) -> "StopRequest":
        # signals are the main thread's; a launcher may run jobs in others
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
