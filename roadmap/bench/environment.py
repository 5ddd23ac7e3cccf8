"""The environment of a measurement: device, driver, libraries."""

import platform
import re
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from roadmap.versions import package_versions


def environment(device: torch.device) -> dict[str, Any]:
    """Device (named as in records of runs), processor, threads, system and versions."""
    found: dict[str, Any] = {"device": device.type, "processor": processor(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "memory_gb": properties.total_memory / 2**30, "driver": driver()}
    return found | {"system": f"{platform.system()} {platform.release()}", "versions": versions()}


def processor() -> str:
    """The CPU's name and vector instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{named[1].strip() if named else platform.processor() or platform.machine()}, {capability}"


def driver() -> str | None:
    """The version of NVIDIA's driver, or None without nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return output[0] if output else None


def versions() -> dict[str, str]:
    """Return the versions of Python, of the installed libraries that are measured, and of CUDA."""
    found = {"python": platform.python_version()} | package_versions()
    with suppress(PackageNotFoundError):
        found["timm"] = version("timm")
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return found
