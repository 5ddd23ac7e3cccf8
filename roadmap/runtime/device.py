"""Devices and precisions."""

import ctypes
import gc
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from roadmap.errors import RequestError, WorkError

logger = logging.getLogger(__name__)

COMPILED_PIXELS = 224  # side of the images from which compiling, which takes minutes, pays for itself
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


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the CPU's name and vector instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    name = named[1].strip() if named else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


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


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free: of a GPU with those torch holds, of the host or its cgroup, if that has less."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    with suppress(OSError, ValueError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    return min(found)


def reset_peak_memory(device: torch.device) -> bool:
    """Free what earlier work left behind; return whether the peak of ``peak_memory_gb`` could be reset."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    # systems other than Linux, C libraries other than glibc and some containers cannot do this
    with suppress(AttributeError, OSError):
        # memory that malloc keeps after a free would be reused without raising the peak
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
        return device.type == "cpu" and process_memory_gb("VmHWM") is not None
    return False


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak memory in GiB since the last reset: allocated by torch on a GPU, or this process's on a CPU.

    Where a process's peak cannot be reset, as outside Linux, it is that of the whole process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = process_memory_gb("VmHWM")
    if peak is None:
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return peak


def process_memory_gb(key: str) -> float | None:
    """Return a memory size in Linux's /proc/self/status, such as ``VmRSS``, in GiB; None if it is not there."""
    with suppress(OSError):
        if found := re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), flags=re.MULTILINE):
            return int(found[1]) / 2**20
    return None


def measure_algorithms(device: torch.device) -> None:
    """Let cuDNN try its algorithms of each convolution and take the fastest, since shapes do not change."""
    torch.backends.cudnn.benchmark = device.type == "cuda"


def compiles(setting: Literal["auto"] | bool, device: torch.device, image_size: int) -> bool:
    """Return whether to compile a training network; ``auto``: on CUDA for images of 224 pixels and more.

    Without a compiler, ``auto`` is false, with one warning, and true raises RequestError.
    """
    wanted = setting is True or (setting == "auto" and device.type == "cuda" and image_size >= COMPILED_PIXELS)
    if not wanted or not (missing := missing_for_compiling(device.type)):
        return wanted
    if setting == "auto":
        warn_once(f"networks are not compiled, which needs {missing}; compile=false turns this message off")
        return False
    raise RequestError(f"compile=true needs {missing} (choose compile=auto or false)")


def missing_for_compiling(device_type: str) -> str:
    """Return in words what torch.compile lacks on this machine, with commands that install it; empty if nothing."""
    missing = [] if compiler() else ["a C++ compiler (apt install g++)"]
    if device_type == "cuda" and find_spec("triton") is None:
        missing.append("triton (pip install triton)")
    return " and ".join(missing)


def compiler() -> str | None:
    """Return the path of the C++ compiler; one comes with a C compiler, which triton needs."""
    return next(filter(None, map(shutil.which, [os.environ.get("CXX", "g++"), "clang++", "c++"])), None)


@cache
def warn_once(message: str) -> None:
    """Log a warning unless this process, which may train many runs, has logged it before."""
    logger.warning(message)


def compiled(network: nn.Module, *, alone: bool = True) -> nn.Module:
    """Return the network compiled for one shape of images; dynamic shapes are slower.

    torch keeps a limited number of compiled versions of a function. One more is an error, not an uncompiled network.
    Those of earlier networks are dropped, unless they are trained in turns with this one (``alone=False``).
    """
    import torch._dynamo

    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if alone:
        torch.compiler.reset()
    else:
        torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit = 1000, 10000
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]
