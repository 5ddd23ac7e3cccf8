"""Showing something again and again while runs are under way."""

import sys
import time
from collections.abc import Callable

from roadmap.errors import RequestError
from roadmap.formatting import printable
from roadmap.runtime.stopping import StopRequest

QUIET_SECONDS = 60  # without a running run, after which the end has been seen


def follow(screen: Callable[[], tuple[str, bool]], seconds: float) -> int:
    """Print ``screen()`` every so many seconds where it has changed, until nothing has run for a minute or Ctrl-C.

    ``screen`` gives the text and whether anything is running.
    """
    if not seconds > 0:
        raise RequestError(f"--watch must be above 0 (got {seconds:g})")
    shown, ran = None, time.monotonic()
    # noted rather than raised: a KeyboardInterrupt that comes while a destructor runs is lost
    with StopRequest() as stop:
        while time.monotonic() - ran < QUIET_SECONDS:
            text, running = screen()
            if running or text != shown:
                ran = time.monotonic()
            if text != shown:
                # from the top of a terminal; one after another elsewhere
                print("\x1b[H\x1b[2J" if sys.stdout.isatty() else "", printable(text), sep="\n", flush=True)
                shown = text
            again = time.monotonic() + seconds
            while (left := again - time.monotonic()) > 0 and stop.signal is None:
                time.sleep(min(left, 0.1))
            if stop.signal is not None:
                return 0
    print(f"nothing has run for {QUIET_SECONDS:g} seconds")
    return 0
