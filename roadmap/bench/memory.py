"""Peak memory of a piece of work."""

import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Peak:
    """``gb`` is set when the work is done: GiB, or None if the device does not report it."""

    gb: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the block, beyond what was allocated before.

    On NVIDIA GPUs this is memory of torch's allocator. On a CPU under Linux it is the process's resident memory,
    including scratch memory of libraries.
    """
    peak = Peak()
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.gb = (torch.cuda.max_memory_allocated(device) - before) / 2**30
    elif device.type == "cpu" and _reset_resident_peak():
        resident = _status("VmRSS")
        yield peak
        peak.gb = (_status("VmHWM") - resident) / 2**20
    else:
        yield peak


def _reset_resident_peak() -> bool:
    """Reset the peak of this process's resident memory; False if the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        # memory that malloc keeps after a free would be reused without raising the peak
        ctypes.CDLL(None).malloc_trim(0)
        # proc(5): 5 resets the peak resident set size
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        return True
    except (OSError, AttributeError):
        return False


def _status(key: str) -> int:
    """A value of /proc/self/status in KiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(rf"^{key}:\s+(\d+) kB$", file.read(), flags=re.MULTILINE)
    assert found, f"/proc/self/status has no {key}"
    return int(found[1])


def total_memory(device: torch.device) -> int:
    """The device's memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
