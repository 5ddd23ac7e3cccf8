"""Where a run computes, and in which precision."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from roadmap.errors import RequestError, WorkError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one. Raises RequestError for a device that this machine does not have."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch raises AssertionError where it was built without the device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RequestError(f"device={name} cannot be used on this machine; choose auto or cpu") from error
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise RequestError(f"device={name} cannot train; choose auto, cpu or cuda")
    return device


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device says that it has not the memory; torch has no class of errors for a CPU that says so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Raises WorkError with the advice where the device has not the memory for what is done while entered."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and not isinstance(error, MemoryError):
            raise
        raise WorkError(f"the device ran out of memory; {advice}") from error


def share_gpus(name: str, worker: int) -> None:
    """Let a sweep's worker have one of this machine's GPUs: with ``device=auto`` the one of its number, in turn."""
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    if count > 1:
        torch.cuda.set_device(worker % count)


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """A maker of the context in which forward passes run."""
    if precision == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=DTYPES[precision])


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """fp32 convolutions and matrix products of NVIDIA's GPUs with a mantissa of 10 bits, or with all 23.

    torch's own start is the first for convolutions and the second for matrix products.
    """
    # the older of torch's two ways to say so: inductor still reads that one, and mixing them is an error
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def peak_memory_gb(device: torch.device) -> float:
    """GiB: the most that torch held on a GPU since the start of the run, or this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
