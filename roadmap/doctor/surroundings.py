"""What a run needs besides a device: packages, room on disks, images, a key for W&B."""

import platform
import resource
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import yaml
from packaging.requirements import Requirement  # comes with Hydra

from roadmap.config.compose import Composed
from roadmap.config.confdir import config_dir
from roadmap.data.files import read_files
from roadmap.data.image import UndecodableError, decode
from roadmap.data.memory import read_images
from roadmap.doctor.findings import Finding
from roadmap.errors import RoadmapError
from roadmap.networks.builder import design_cost
from roadmap.records.experiment import EVALUATION_SOURCES, MEMORY_SOURCES, Data, Experiment
from roadmap.tracking.wandb_client import has_wandb_key, wandb_host
from roadmap.versions import DISTRIBUTION

SHM = Path("/dev/shm")
FILES = 1024  # that one process should be allowed to open: workers pass each batch as an open file
# what is not needed, what for, and how to get it
EXTRAS = {
    "wandb": ("logger=wandb", "pip install 'convnext-roadmap[wandb]'"),
    "datasets": ("data=parquet and data=imagenet_parquet", "pip install 'convnext-roadmap[parquet]'"),
    "timm": ("the comparison with its networks", "pip install timm"),
}


def surroundings(composed: Composed) -> list[Finding]:
    """The findings about a config's run."""
    experiment = composed.experiment()
    return [
        *versions(),
        *map(extra, EXTRAS),
        disk(composed, experiment),
        shared_memory(experiment),
        open_files(),
        data(experiment),
        other_data(experiment.data),
        wandb_key(wanted=experiment.logger.name == "wandb"),
    ]


def versions() -> list[Finding]:
    """Python and each package that must be there, against the versions that the installed package asks for."""
    found = [Finding("Python", True, platform.python_version())]
    for wanted in sorted(map(Requirement, requires(DISTRIBUTION) or []), key=lambda wanted: wanted.name):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        there = _version(wanted.name)
        fits = there is not None and wanted.specifier.contains(there, prereleases=True)
        found.append(Finding(wanted.name, fits, there or "not installed", "" if fits else f"pip install '{wanted}'"))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def extra(name: str) -> Finding:
    """A package that some options want."""
    use, install = EXTRAS[name]
    there = _version(name)
    return Finding(
        name, True if there else None, there or "not installed", "" if there else f"{use} wants it: {install}"
    )


def disk(composed: Composed, experiment: Experiment) -> Finding:
    """Whether files can be written under ``runs_dir``, and for how many runs of this network there is room."""
    runs_dir = Path(experiment.settings.runs_dir)
    there = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        reason = f"cannot write to {there}: {error.strerror}"
        return Finding("runs_dir", False, reason, "choose another runs_dir, or make it one that you may write to")
    # weights, what the optimizer keeps of each, and the average; in last.pt, previous.pt and an older best.pt
    copies = 1 + (2 if experiment.recipe.optimizer.name == "adamw" else 1) + (experiment.recipe.ema_decay is not None)
    run = 3 * 4 * copies * design_cost(composed).params
    runs = free // run
    found = f"{free / 2**30:.1f} GiB free in {runs_dir}: checkpoints of {runs:,} runs like this ({run / 2**20:.0f} MiB)"
    return Finding("runs_dir", runs >= 1, found, "" if runs else "make room, or choose another runs_dir")


def shared_memory(experiment: Experiment) -> Finding:
    """Room for the batches that worker processes have ready: two each, uint8."""
    if not SHM.is_dir():
        return Finding("shared memory", None, f"no {SHM} on this system")
    free, workers = shutil.disk_usage(SHM).free, experiment.settings.num_workers
    wanted = 2 * workers * experiment.micro_batch_size(1) * 3 * experiment.image_size**2
    used = experiment.data.source not in MEMORY_SOURCES and workers > 0
    enough = free >= wanted
    mend = (
        f"{workers} workers want {wanted / 2**20:.0f} MiB of {SHM}: start the container with --shm-size, "
        "or choose a smaller micro_batch_size or num_workers"
    )
    found = f"{free / 2**20:,.0f} MiB free in {SHM}"
    return Finding("shared memory", enough if used else None, found, mend if used and not enough else "")


def open_files() -> Finding:
    """How many files a process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= FILES
    mend = f"loader workers pass batches as open files: `ulimit -n {FILES}` before the run"
    return Finding("open files", enough, f"{soft} of {hard} allowed", "" if enough else mend)


def data(experiment: Experiment) -> Finding:
    """The images that the config chooses, opened by the readers that a run opens them with."""
    chosen = experiment.data
    name = f"data {chosen.name}"
    try:
        if chosen.source in ("cifar10", "cifar100") and not _downloaded(chosen):
            found = f"not in data.root={chosen.root}"
            return Finding(name, None, found, "a run downloads it there (170 MB); or choose the data.root that has it")
        return Finding(name, True, _opened(chosen, experiment.image_size))
    except RoadmapError as error:
        return Finding(name, False, "cannot be opened", str(error))
    except (OSError, UndecodableError) as error:
        return Finding(name, False, "its first image cannot be read", f"mend or remove it: {error}")


def _downloaded(chosen: Data) -> bool:
    from torchvision.datasets import CIFAR10, CIFAR100

    return (Path(chosen.root or "") / (CIFAR10 if chosen.source == "cifar10" else CIFAR100).base_folder).is_dir()


def _opened(chosen: Data, image_size: int) -> str:
    if chosen.source in MEMORY_SOURCES:
        train, val = read_images(chosen, image_size)
        return f"{len(train):,} images to train on, {len(val):,} to evaluate on"
    split = read_files(chosen)
    height, width, _ = decode(split.train.read(0)).shape
    return (
        f"{len(split.train.labels):,} images to train on, {len(split.val.labels):,} to evaluate on, "
        f"{split.num_classes} classes; the first is {width} x {height}"
    )


def other_data(chosen: Data) -> Finding:
    """The data sets to train on that were not asked about: which of them want to be told where they are."""
    files = sorted((config_dir() / "data").glob("*.yaml"))
    loaded = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    others = [name for name in loaded if name not in (chosen.name, "digits")]
    names = [name for name in others if loaded[name].get("source") not in EVALUATION_SOURCES]
    found = f"not looked for: {', '.join(names)}"
    return Finding(
        "other data", None, found, f"`roadmap doctor data={names[0]} data.root=FOLDER` looks for one of them"
    )


def wandb_key(*, wanted: bool) -> Finding:
    """Whether there is a key where W&B's client looks for one: the environment, and what `wandb login` wrote."""
    name = "W&B key"
    if not find_spec("wandb"):
        mend = f"logger=wandb wants the package wandb: {EXTRAS['wandb'][1]}"
        return Finding(name, False if wanted else None, "wandb is not installed", mend)
    if has_wandb_key():
        return Finding(name, True, f"there, for {wandb_host()}")
    # a run is logged offline then, which is no fault
    return Finding(name, None, "none", "without one logger=wandb logs offline: `wandb login`, or set WANDB_API_KEY")
