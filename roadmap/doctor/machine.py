"""What this machine computes with: cores, memory, GPUs, precisions, processes, compilers."""

import os
import shutil
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from roadmap.doctor.findings import Finding
from roadmap.errors import RequestError


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device_name: str, *, compiles: bool) -> list[Finding]:
    """The findings; ``device_name`` and ``compiles`` are the settings ``device`` and ``compile``."""
    return [
        processor(),
        *gpus(device_name),
        *precisions(),
        backends(),
        compiler(wanted=compiles),
    ]


def processor() -> Finding:
    """Cores, threads and memory; fewer threads than cores are somebody's choice."""
    cores, threads = usable_cores(), torch.get_num_threads()
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    found = f"{cores} cores, {threads} threads, {pages * size / 2**30:.0f} GiB of memory, "
    found += torch.backends.cpu.get_cpu_capability()
    mend = f"{threads} threads share {cores} cores: set OMP_NUM_THREADS={cores} or less" if threads > cores else ""
    return Finding("CPU", not mend, found, mend)


def gpus(device_name: str) -> list[Finding]:
    """Each NVIDIA GPU, or why there is none. Raises RequestError for a name that no device has."""
    try:
        wanted = None if device_name == "auto" else torch.device(device_name)
    except RuntimeError as error:
        raise RequestError(f"unknown device '{device_name}'; choose auto, cpu, cuda, cuda:1 or mps") from error
    if torch.cuda.is_available():
        found = [_gpu(index) for index in range(torch.cuda.device_count())]
        if wanted is None or wanted.type != "cuda" or (wanted.index or 0) < len(found):
            return found
        return [*found, Finding(f"device {device_name}", False, "not here", f"choose device=cuda:{len(found) - 1}")]
    needed = wanted is not None and wanted.type == "cuda"
    if torch.version.cuda is None:
        mend = "this torch is built without CUDA: install another as pytorch.org/get-started says"
    elif shutil.which("nvidia-smi") is None:
        mend = "there is no NVIDIA driver: install it, or in a container start it with --gpus all; else device=cpu"
    else:
        mend = f"torch wants a driver for CUDA {torch.version.cuda} and a GPU to see: look at `nvidia-smi`"
    return [Finding("GPU", False if needed else None, f"none; torch is built for CUDA {torch.version.cuda}", mend)]


def _gpu(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    capability = f"{properties.major}.{properties.minor}"
    found = f"{properties.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, compute capability {capability}"
    # a wheel carries code for some generations only
    built = any(arch.startswith(f"sm_{properties.major}") for arch in torch.cuda.get_arch_list())
    mend = "" if built else f"this torch has no code for capability {capability}: install another build of it"
    return Finding(f"GPU {index}", built, found, mend)


def precisions() -> list[Finding]:
    """Which precisions the device that ``auto`` takes has in hardware; the others are emulated, and slow."""
    if torch.cuda.is_available():
        major = torch.cuda.get_device_properties(0).major
        has = {"bf16": torch.cuda.is_bf16_supported(including_emulation=False), "fp16": major >= 7, "TF32": major >= 8}
    else:
        # torch 2.9 does not say it of CPUs yet
        flags: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        has = {
            "bf16": any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")),
            "fp16": any(flags.get(name, False) for name in ("avx512_fp16", "amx_fp16", "fp16")),
            "TF32": False,
        }
    found = [Finding("precision fp32", True, "everywhere")]
    for name, native in has.items():
        how = "in hardware" if native else "not on this device" if name == "TF32" else "not in hardware, says torch"
        mend = f"precision={name} may be slow here: choose fp32" if not native and name != "TF32" else ""
        found.append(Finding(f"precision {name}", native or None, how, mend))
    return found


def backends() -> Finding:
    """What processes talk through: gloo on CPUs, NCCL between GPUs."""
    names = ["gloo"] if dist.is_gloo_available() else []
    if dist.is_nccl_available():
        version = torch.cuda.nccl.version()
        names.append("NCCL " + ".".join(map(str, version)))
    wanted = torch.cuda.device_count() > 1
    missing = wanted and not dist.is_nccl_available()
    mend = "this torch has no NCCL, which several GPUs want: install a build with CUDA" if missing else ""
    return Finding("processes", not missing, ", ".join(names) or "no backend", mend)


def compiler(*, wanted: bool) -> Finding:
    """What ``compile=true`` builds code with: a C++ compiler, for a GPU triton and a C compiler."""
    found = next(filter(None, map(shutil.which, [os.environ.get("CXX", "g++"), "clang++", "c++"])), None)
    lacking = [] if found else ["a C++ compiler (apt install g++)"]
    triton = find_spec("triton") is not None
    if torch.cuda.is_available() and not triton:
        lacking.append("triton (pip install triton)")
    if not lacking:
        return Finding("compile", True, f"{found}{', triton' if triton else ''}; not tried here: --gpu does")
    return Finding("compile", False if wanted else None, "not here", f"compile=true wants {' and '.join(lacking)}")
