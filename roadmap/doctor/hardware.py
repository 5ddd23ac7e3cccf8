"""What this machine computes with: cores, memory, GPUs, precisions, process backends, compilers."""

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from roadmap.bench.environment import processor
from roadmap.errors import RequestError


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``ok`` is False where the config needs something that is missing, None where it is missing but not needed. ``fix``
    says how to get it.
    """

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def hardware(device_name: str, *, compiles: bool) -> list[Finding]:
    """Findings for the settings ``device`` and ``compile``."""
    return [cpu(), *gpus(device_name), precisions(), backends(), compiler(needed=compiles)]


def cpu() -> Finding:
    """Cores, threads and memory; more threads than cores are a mistake."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, memory = torch.get_num_threads(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    fix = f"set OMP_NUM_THREADS={cores} or less" if threads > cores else ""
    return Finding("CPU", not fix, f"{processor()}; {cores} cores, {threads} threads, {memory:.0f} GiB of memory", fix)


def gpus(device_name: str) -> list[Finding]:
    """Each NVIDIA GPU, or why there is none. Raises RequestError for an unknown device."""
    try:
        wanted = None if device_name == "auto" else torch.device(device_name)
    except RuntimeError as error:
        raise RequestError(f"unknown device '{device_name}'; choose auto, cpu, cuda, cuda:1 or mps") from error
    needed = wanted is not None and wanted.type == "cuda"
    if torch.cuda.is_available():
        found = [_gpu(index) for index in range(torch.cuda.device_count())]
        if needed and wanted is not None and (wanted.index or 0) >= len(found):
            found.append(Finding(f"device {device_name}", False, "not found", f"choose device=cuda:{len(found) - 1}"))
        return found
    if torch.version.cuda is None:
        fix = "this torch is built without CUDA: install another build (pytorch.org/get-started)"
    elif shutil.which("nvidia-smi") is None:
        fix = "no NVIDIA driver found: install it, or start the container with --gpus all; otherwise use device=cpu"
    else:
        fix = f"torch needs a GPU and a driver for CUDA {torch.version.cuda}: check `nvidia-smi`"
    return [Finding("GPU", False if needed else None, f"none; torch is built for CUDA {torch.version.cuda}", fix)]


def _gpu(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    capability = f"{properties.major}.{properties.minor}"
    found = f"{properties.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, compute capability {capability}"
    supported = any(arch.startswith(f"sm_{properties.major}") for arch in torch.cuda.get_arch_list())
    fix = "" if supported else f"this torch does not support compute capability {capability}: install another build"
    return Finding(f"GPU {index}", supported, found, fix)


def precisions() -> Finding:
    """Which precisions the device of ``device=auto`` computes in hardware; it emulates the others, slowly."""
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        native = {"bf16": bf16, "fp16": torch.cuda.get_device_properties(0).major >= 7}
    else:
        flags: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 does not have it
        native = {name: any(flags.get(f"{isa}_{name}") for isa in ("avx512", "amx")) for name in ("bf16", "fp16")}
    return Finding(
        "precisions", True, "in hardware: " + ", ".join(["fp32", *(name for name in native if native[name])])
    )


def backends() -> Finding:
    """The backends of torch.distributed: gloo for CPUs, NCCL for GPUs."""
    names = ["gloo"] if dist.is_gloo_available() else []
    if dist.is_nccl_available():
        names.append("NCCL " + ".".join(map(str, torch.cuda.nccl.version())))
    fix = "several GPUs need NCCL: install a build of torch with CUDA"
    ok = torch.cuda.device_count() < 2 or dist.is_nccl_available()
    return Finding("processes", ok, ", ".join(names) or "no backend", "" if ok else fix)


def compiler(*, needed: bool) -> Finding:
    """What ``compile=true`` needs: a C++ compiler and, on a GPU, triton."""
    found = next(filter(None, map(shutil.which, [os.environ.get("CXX", "g++"), "clang++", "c++"])), None)
    if found is None:
        return Finding(
            "compile", False if needed else None, "no C++ compiler", "compile=true needs one: apt install g++"
        )
    if torch.cuda.is_available() and find_spec("triton") is None:
        return Finding("compile", False if needed else None, "no triton", "compile=true needs it: pip install triton")
    return Finding("compile", True, found)
