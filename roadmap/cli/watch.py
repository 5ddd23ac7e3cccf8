"""Repeated output while runs are in progress (``--watch``)."""

import sys
import time
from collections.abc import Callable

from roadmap.errors import RequestError
from roadmap.formatting import printable
from roadmap.runtime.stopping import StopRequest

QUIET_SECONDS = 60  # without a running run, after which watching ends


def follow(screen: Callable[[], tuple[str, bool]], seconds: float) -> int:
    """Print ``screen()`` every ``seconds`` if it changed, until nothing has run for a minute or Ctrl-C is pressed.

    ``screen`` returns the text and whether anything is running.
    """
    if not seconds > 0:
        raise RequestError(f"--watch must be above 0 (got {seconds:g})")
    shown, ran = None, time.monotonic()
    # a KeyboardInterrupt raised during a destructor would be lost
    with StopRequest() as stop:
        while time.monotonic() - ran < QUIET_SECONDS:
            text, running = screen()
            if running or text != shown:
                ran = time.monotonic()
            if text != shown:
                # clear a terminal; elsewhere, append
                print("\x1b[H\x1b[2J" if sys.stdout.isatty() else "", printable(text), sep="\n", flush=True)
                shown = text
            again = time.monotonic() + seconds
            while (left := again - time.monotonic()) > 0 and stop.signal is None:
                time.sleep(min(left, 0.1))
            if stop.signal is not None:
                return 0
    print(f"nothing has run for {QUIET_SECONDS:g} seconds")
    return 0
