"""What a run needs besides a device: packages, disk space, shared memory, data, a W&B key."""

import platform
import resource
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement  # comes with Hydra

from roadmap.config.compose import Composed
from roadmap.config.confdir import config_dir
from roadmap.data.files import read_files
from roadmap.data.image import UndecodableError, decode
from roadmap.data.memory import read_images
from roadmap.doctor.hardware import Finding
from roadmap.errors import RoadmapError
from roadmap.networks.builder import design_cost
from roadmap.records.experiment import EVALUATION_SOURCES, MEMORY_SOURCES, Data, Experiment
from roadmap.tracking.wandb_client import has_wandb_key, wandb_host
from roadmap.versions import DISTRIBUTION

SHM = Path("/dev/shm")
OPEN_FILES = 1024  # loader workers pass each batch as an open file


def requirements(composed: Composed) -> list[Finding]:
    """Findings for a config's run."""
    experiment = composed.experiment()
    return [
        packages(),
        extras(),
        disk(composed, experiment),
        shared_memory(experiment),
        open_files(),
        data(experiment),
        other_data(experiment.data),
        wandb_key(needed=experiment.logger.name == "wandb"),
    ]


def unmet(extra: str = "") -> list[str]:
    """Required packages, or those of an extra, that are not installed in a version that fits."""
    found = []
    for requirement in map(Requirement, requires(DISTRIBUTION) or []):
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if applies and always != bool(extra):
            with suppress(PackageNotFoundError):
                if requirement.specifier.contains(version(requirement.name), prereleases=True):
                    continue
            found.append(f"{requirement.name}{requirement.specifier}")
    return found


def packages() -> Finding:
    """Python, torch, and whether every required package is installed in a version that fits."""
    found = f"Python {platform.python_version()}, torch {version('torch')}, torchvision {version('torchvision')}"
    missing = " ".join(f"'{name}'" for name in unmet())
    return Finding("packages", not missing, found, f"pip install {missing}" if missing else "")


def extras() -> Finding:
    """Which optional dependencies are installed."""
    names = [name for name in metadata(DISTRIBUTION).get_all("Provides-Extra") or [] if name not in ("dev", "docs")]
    missing = [name for name in names if unmet(name)]
    found = ", ".join(name for name in names if name not in missing) or "none"
    fix = f"pip install '{DISTRIBUTION}[{','.join(missing)}]' installs the others" if missing else ""
    return Finding("extras", None if missing else True, found, fix)


def disk(composed: Composed, experiment: Experiment) -> Finding:
    """Whether ``runs_dir`` is writable, and the number of runs of this network that it has space for."""
    runs_dir = Path(experiment.settings.runs_dir)
    folder = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("runs_dir", False, f"cannot write to {folder}: {error.strerror}", "choose another runs_dir")
    # three checkpoints, each with weights, optimizer state and EMA
    copies = 1 + (2 if experiment.recipe.optimizer.name == "adamw" else 1) + (experiment.recipe.ema_decay is not None)
    run = 3 * 4 * copies * design_cost(composed).params
    found = f"{free / 2**30:.1f} GiB free in {runs_dir}: {free // run:,} runs like this ({run / 2**20:.0f} MiB each)"
    return Finding("runs_dir", free >= run, found, "" if free >= run else "free some space, or choose another runs_dir")


def shared_memory(experiment: Experiment) -> Finding:
    """Space for the uint8 batches that loader workers prefetch, two each."""
    if not SHM.is_dir():
        return Finding("shared memory", None, f"no {SHM} on this system")
    free, workers = shutil.disk_usage(SHM).free, experiment.settings.num_workers
    workers = 0 if experiment.data.source in MEMORY_SOURCES else workers
    needed = 2 * workers * experiment.micro_batch_size(1) * 3 * experiment.image_size**2
    fix = f"{workers} workers need {needed / 2**20:.0f} MiB: start the container with --shm-size, or lower num_workers"
    return Finding("shared memory", free >= needed, f"{free / 2**20:,.0f} MiB free", fix if free < needed else "")


def open_files() -> Finding:
    """How many files a process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES
    return Finding("open files", ok, f"{soft} of {hard} allowed", "" if ok else f"run `ulimit -n {OPEN_FILES}` first")


def data(experiment: Experiment) -> Finding:
    """The data set of the config, opened with the readers of a run."""
    chosen, name = experiment.data, f"data {experiment.data.name}"
    folders = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    if chosen.source in folders and not (Path(chosen.root or "") / folders[chosen.source]).is_dir():
        return Finding(name, None, f"not in data.root={chosen.root}", "a run downloads it (170 MB)")
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


def other_data(chosen: Data) -> Finding:
    """The other data sets that can be trained on, which are not checked."""
    loaded = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in (config_dir() / "data").glob("*.yaml")}
    names = sorted(name for name, values in loaded.items() if values.get("source") not in EVALUATION_SOURCES)
    found = ", ".join(name for name in names if name not in (chosen.name, "digits"))
    return Finding("other data", None, f"not checked: {found}", "check one with data=NAME data.root=FOLDER")


def wandb_key(*, needed: bool) -> Finding:
    """Whether W&B's client finds a key: in the environment, or as saved by `wandb login`."""
    if unmet("wandb"):
        fix = f"logger=wandb needs the package wandb: pip install '{DISTRIBUTION}[wandb]'"
        return Finding("W&B key", False if needed else None, "wandb is not installed", fix)
    if has_wandb_key():
        return Finding("W&B key", True, f"found for {wandb_host()}")
    return Finding("W&B key", None, "none", "logger=wandb logs offline: run `wandb login`, or set WANDB_API_KEY")
