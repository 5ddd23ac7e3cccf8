"""``roadmap doctor``: the environment and what this machine can do, for the run that overrides define."""

import json
import os
import platform
import shutil
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from roadmap.cli.arguments import checked_overrides, override_parser
from roadmap.config.build import measured_cost
from roadmap.config.compose import Composed, compose
from roadmap.data.image import UndecodableError, decode
from roadmap.data.memory import read_images
from roadmap.data.readers import read_files, read_torchvision
from roadmap.errors import RequestError, RoadmapError, WorkError
from roadmap.formatting import aligned
from roadmap.runtime.device import available_cores, compiler, missing_for_compiling, processor
from roadmap.schema.experiment import MEMORY_SOURCES, Experiment
from roadmap.tracking.wandb_logger import has_wandb_key, wandb_host
from roadmap.versions import DISTRIBUTION

# extra -> a package that it installs
EXTRAS = {"timm": "timm", "wandb": "wandb", "search": "optuna", "parquet": "datasets"}
EXTRAS |= {
    extra: f"hydra-{name}-launcher" for extra, name in (("joblib", "joblib"), ("slurm", "submitit"), ("ray", "ray"))
}


class Finding(NamedTuple):
    """One line of the report; ``ok`` is None if something is missing that the config does not need."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def main(arguments: list[str]) -> int:
    """Print the findings. Raises WorkError if something that the config needs is missing."""
    parser = override_parser("doctor", "Show the environment and what this machine can do.")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of the table")
    options = parser.parse_intermixed_args(arguments)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RequestError("roadmap doctor runs in one process; start it without torchrun")
    findings = environment(compose(checked_overrides(options.overrides), options.config_dir))
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1, ensure_ascii=False))
    else:
        marks = {True: "yes", False: "NO", None: "-"}
        print(aligned(["what", "ok", "found"], [[one.name, marks[one.ok], one.found] for one in findings]))
        print("\n".join(["", *(f"{one.name}: {one.fix}" for one in findings if one.fix)]))
    if missing := [finding.name for finding in findings if finding.ok is False]:
        raise WorkError(f"missing on this machine: {', '.join(missing)}")
    return 0


def environment(composed: Composed) -> list[Finding]:
    """Findings about what a config's run needs, and about optional parts."""
    experiment = composed.experiment()
    settings = experiment.settings
    machine = [cpu(), *gpus(settings.device), compiling(needed=settings.compile is True), packages(), extras()]
    key = wandb_key(needed=experiment.logger.name == "wandb")
    return [*machine, disk(composed, experiment), data(experiment), key]


def cpu() -> Finding:
    """Cores, threads and memory; there must not be more threads than cores."""
    cores = available_cores()
    threads, memory = torch.get_num_threads(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    fix = f"set OMP_NUM_THREADS={cores} or less" if threads > cores else ""
    return Finding("CPU", not fix, f"{processor()}; {cores} cores, {threads} threads, {memory:.0f} GiB of memory", fix)


def gpus(device_name: str) -> list[Finding]:
    """Each NVIDIA GPU, or why there is none. Raises RequestError for an unknown device."""
    try:
        wanted = torch.device("cpu" if device_name == "auto" else device_name)
    except RuntimeError as error:
        raise RequestError(f"unknown device '{device_name}' (choose auto, cpu, cuda, cuda:1 or mps)") from error
    if torch.cuda.is_available():
        found = [_gpu(index) for index in range(torch.cuda.device_count())]
        if wanted.type == "cuda" and (wanted.index or 0) >= len(found):
            found.append(Finding(f"device {device_name}", False, "not found", f"choose device=cuda:{len(found) - 1}"))
        return found
    fix = "install an NVIDIA driver, or start the container with --gpus all; otherwise use device=cpu"
    if torch.version.cuda is None:
        fix = "this torch is built without CUDA: install another build (pytorch.org/get-started)"
    elif shutil.which("nvidia-smi"):
        fix = f"torch needs a GPU and a driver for CUDA {torch.version.cuda}: check `nvidia-smi`"
    return [Finding("GPU", False if wanted.type == "cuda" else None, "none that torch can use", fix)]


def _gpu(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    capability = f"{properties.major}.{properties.minor}"
    found = f"{properties.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, compute capability {capability}"
    supported = any(arch.startswith(f"sm_{properties.major}") for arch in torch.cuda.get_arch_list())
    fix = "" if supported else f"this torch does not support compute capability {capability}: install another build"
    return Finding(f"GPU {index}", supported, found, fix)


def compiling(*, needed: bool) -> Finding:
    """What ``compile=true`` needs: a C++ compiler and, on a GPU, triton."""
    missing = missing_for_compiling("cuda" if torch.cuda.is_available() else "cpu")
    fix = f"compile=true needs {missing}" if missing else ""
    return Finding("compile", None if missing and not needed else not missing, compiler() or "no compiler", fix)


def packages() -> Finding:
    """The versions of Python and torch; ``pip check`` finds unsuitable versions."""
    found = f"Python {platform.python_version()}, torch {version('torch')}, torchvision {version('torchvision')}"
    return Finding("packages", True, found)


def extras() -> Finding:
    installed = {package.name.replace("_", "-") for package in distributions()}
    missing = [name for name, package in EXTRAS.items() if package not in installed]
    found = ", ".join(name for name in EXTRAS if name not in missing) or "none"
    fix = f"pip install '{DISTRIBUTION}[{','.join(missing)}]' installs the others" if missing else ""
    return Finding("extras", None if missing else True, found, fix)


def disk(composed: Composed, experiment: Experiment) -> Finding:
    """Whether ``runs_dir`` is writable, and the number of runs of this network that it has space for."""
    runs_dir = Path(experiment.settings.runs_dir)
    folder = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("runs_dir", False, f"cannot write to {folder}", "choose another runs_dir")
    free = shutil.disk_usage(folder).free
    # three checkpoints, each with weights, optimizer state and EMA
    copies = 1 + (2 if experiment.recipe.optimizer.name == "adamw" else 1) + (experiment.recipe.ema_decay is not None)
    run = 3 * 4 * copies * measured_cost(composed).params
    found = f"{free / 2**30:.1f} GiB free in {runs_dir}: {free // run:,} runs like this ({run / 2**20:.0f} MiB each)"
    return Finding("runs_dir", free >= run, found, "" if free >= run else "free some space, or choose another runs_dir")


def data(experiment: Experiment) -> Finding:
    """The data set of the config, opened with the readers of a run."""
    chosen, name = experiment.data, f"data {experiment.data.name}"
    folders = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    if chosen.source in folders and not (Path(chosen.root or "") / folders[chosen.source]).is_dir():
        return Finding(name, None, f"not in data.root={chosen.root}", "a run downloads it (170 MB)")
    if chosen.source == "torchvision":
        try:
            read_torchvision(chosen, download=False)
        except RequestError:
            return Finding(name, None, f"not in data.root={chosen.root}", "a run downloads it")
    try:
        if chosen.source in MEMORY_SOURCES:
            train, val = read_images(chosen, experiment.image_size)
            return Finding(name, True, f"{len(train):,} training images, {len(val):,} validation images")
        split = read_files(chosen)
        decode(split.train.read(0))
        counts = f"{len(split.train.labels):,} training images, {len(split.val.labels):,} validation images"
        return Finding(name, True, f"{counts}, {split.num_classes} classes")
    except RoadmapError as error:
        return Finding(name, False, "cannot be opened", str(error))
    except (OSError, UndecodableError) as error:
        return Finding(name, False, "the first image cannot be read", f"replace or remove it: {error}")


def wandb_key(*, needed: bool) -> Finding:
    """Whether W&B's client finds a key: in the environment, or as saved by `wandb login`."""
    if find_spec("wandb") is None:
        fix = f"logger=wandb needs the package wandb: pip install '{DISTRIBUTION}[wandb]'"
        return Finding("W&B key", False if needed else None, "wandb is not installed", fix)
    fix = "" if has_wandb_key() else "logger=wandb logs offline: run `wandb login`, or set WANDB_API_KEY"
    return Finding("W&B key", None if fix else True, "none" if fix else f"found for {wandb_host()}", fix)
