"""Making many small objects at once without Python's search for cyclic garbage among all that are there."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """While it lasts, nothing searches for garbage: with torch or 10,000 records in memory that is most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
