"""The most memory that a piece of work held, beyond what was there before it."""

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
    """``gb``: GiB, once the work is done; None where the device does not tell."""

    gb: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """What the work within takes at most, beyond what was held before.

    On NVIDIA's GPUs it is what torch's allocator holds, on a CPU the resident memory of this process, libraries' own
    scratch included, where Linux tells it. That peak is reset before, so that what went on earlier is not in it.
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
    """Let the peak of this process's resident memory begin anew; False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        # freed memory that malloc keeps would be used again and not be seen
        ctypes.CDLL(None).malloc_trim(0)
        # proc(5): 5 resets the peak resident set size
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        return True
    except (OSError, AttributeError):
        return False


def _status(key: str) -> int:
    """KiB, as /proc says it of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(rf"^{key}:\s+(\d+) kB$", file.read(), flags=re.MULTILINE)
    assert found, f"/proc/self/status has no {key}"
    return int(found[1])


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
