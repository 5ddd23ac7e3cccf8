"""Devices and precisions."""

import ctypes
import gc
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from roadmap.errors import RequestError, WorkError

CLEAR_REFS = Path("/proc/self/clear_refs")  # on Linux
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device; ``auto`` is a GPU if there is one. Raises RequestError if the machine has no such device."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch raises AssertionError if it was built without the device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RequestError(f"device={name} is not available on this machine (choose auto or cpu)") from error
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise RequestError(f"device={name} cannot be used for training (choose auto, cpu, cuda, mps or xpu)")
    return device


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means out of memory; for CPUs torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Raise WorkError with the advice if the block runs out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and not isinstance(error, MemoryError):
            raise
        raise WorkError(f"the device ran out of memory; {advice}") from error


def share_gpus(name: str, worker: int) -> None:
    """Make GPU ``worker`` modulo their number the current one, unless ``device`` names a GPU."""
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    if count > 1:
        torch.cuda.set_device(worker % count)


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """Return a function that makes the context of forward passes in a precision."""
    if precision == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=DTYPES[precision])


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in fp32 convolutions and matrix products on NVIDIA GPUs.

    By default torch allows it for convolutions only.
    """
    # torch's older API: inductor still reads it, and mixing the two is an error
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def reset_peak_memory(device: torch.device) -> None:
    """Free what earlier work left behind, and start to measure the peak of ``peak_memory_gb`` anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_REFS.exists():
        # memory that malloc keeps after a free would be reused without raising the peak
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak memory in GiB since the last reset: allocated by torch on a GPU, or this process's on a CPU.

    Outside Linux, a process's peak cannot be reset: it is that of the whole process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if CLEAR_REFS.exists():
        return process_memory_gb("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # bytes on macOS


def process_memory_gb(key: str) -> float:
    """Return a memory size in /proc/self/status, such as ``VmRSS``, in GiB."""
    (found,) = re.findall(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    return int(found) / 2**20
