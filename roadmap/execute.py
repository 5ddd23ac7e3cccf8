"""One run from what is asked for to its summary: builds, trains, logs, resumes."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from roadmap.augment import mixer
from roadmap.checkpoint import Checkpoints
from roadmap.config import Composed
from roadmap.costs import cost
from roadmap.data import Loaders, open_loaders
from roadmap.device import autocast, choose_device, peak_memory_gb
from roadmap.errors import RoadmapError, WorkError
from roadmap.experiment import Experiment
from roadmap.loggers import open_logger
from roadmap.network import Network
from roadmap.optim import build_optimizer, build_schedule
from roadmap.progress import Progress
from roadmap.runfolder import RunFolder, now
from roadmap.seeds import derived_seed
from roadmap.trainer import Record, Trainer

Summary = dict[str, Any]


def execute(composed: Composed) -> tuple[Summary, RunFolder]:
    """Train what a config asks for, or what is left of it; a finished run is returned as it is.

    Raises RequestError before anything is written where the request does not fit. Raises WorkError, and
    KeyboardInterrupt, after the summary says so: the same request goes on from the last checkpoint.
    """
    experiment = composed.experiment()
    folder = RunFolder.find(experiment)
    if folder is not None and experiment.settings.resume == "auto":
        summary = folder.read_summary()
        if summary is not None and summary.get("status") == "finished":
            return summary, folder
    device = choose_device(experiment.settings.device)
    loaders = open_loaders(experiment, device)
    folder = RunFolder.open(experiment, composed.values, composed.overrides)
    return _train(experiment, loaders, folder, device), folder


def _train(experiment: Experiment, loaders: Loaders, folder: RunFolder, device: torch.device) -> Summary:
    network = seeded_network(experiment, loaders.num_classes, device)
    opening = _opening_summary(experiment, loaders, network, device)
    before = folder.read_summary() or {}
    folder.write_summary(opening | {"started": before.get("started") or opening["started"]})
    with _status(folder), _stop_on_sigterm():
        checkpoints = Checkpoints(folder.checkpoints, experiment.run_id)
        progress = Progress(run_label(experiment), experiment.epochs)
        logger = open_logger(experiment, folder.path)
        trainer = build_trainer(experiment, loaders, network, device)
        if state := checkpoints.load(device):
            trainer.load_state(state)
        rows = folder.keep_metrics(trainer.epochs_done)

        def record(row: Record) -> None:
            rows.append(row)
            folder.append_metrics(row)
            logger.log(row)
            progress.show(row)

        trainer.record, trainer.save = record, checkpoints.save
        with progress:
            progress.start(trainer.epochs_done)
            trainer.fit()
        summary = folder.update_summary(**_results(rows, loaders, device))
        logger.close(summary)
    return summary


def seeded_network(experiment: Experiment, num_classes: int, device: torch.device) -> Network:
    """The experiment's network with the initial weights of its seed, on the device."""
    torch.manual_seed(derived_seed(experiment.seed, "weights"))
    network = Network(experiment.design, experiment.recipe.network, num_classes)
    memory_format = torch.channels_last if experiment.settings.channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]


def build_trainer(experiment: Experiment, loaders: Loaders, network: nn.Module, device: torch.device) -> Trainer:
    """The trainer of an experiment, with nothing to record to yet."""
    recipe = experiment.recipe
    optimizer = build_optimizer(network, recipe.optimizer)
    updates = loaders.train.images // experiment.batch_size * experiment.epochs
    ema = None
    if recipe.ema_decay is not None:
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    return Trainer(
        network=network,
        forward=torch.compile(network) if experiment.settings.compile else network,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, updates),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        autocast=autocast(device, experiment.precision),
        mix=mixer(recipe.augment, loaders.num_classes),
        loss=nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        train=loaders.train,
        val=loaders.val,
        epochs=experiment.epochs,
        accumulation=experiment.batch_size // experiment.micro_batch_size,
        seed=experiment.seed,
        record=lambda row: None,
        save=lambda state, best: None,
        ema=ema,
    )


def run_label(experiment: Experiment) -> str:
    """How a run is called on screen."""
    return f"{experiment.regime} {experiment.variant} seed {experiment.seed}"


def _opening_summary(experiment: Experiment, loaders: Loaders, network: nn.Module, device: torch.device) -> Summary:
    spent = cost(network, experiment.image_size)
    return {
        "run_id": experiment.run_id,
        "status": "running",
        "regime": experiment.regime,
        "step": experiment.step,
        "variant": experiment.variant,
        "design": experiment.design.to_dict(),
        "seed": experiment.seed,
        "data": experiment.data.name,
        "recipe": experiment.recipe.name,
        "epochs": experiment.epochs,
        "batch_size": experiment.batch_size,
        "image_size": experiment.image_size,
        "train_images": loaders.train_images,
        "val_images": loaders.val_images,
        "num_classes": loaders.num_classes,
        "gmacs": spent.gmacs,
        "params_m": spent.params_m,
        "activations_m": spent.activations / 1e6,
        "top1": None,
        "top5": None,
        "best_top1": None,
        "train_seconds": None,
        "images_per_second": None,
        "peak_memory_gb": None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": experiment.precision,
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in ("roadmap", "torch", "torchvision")},
        "started": now(),
        "ended": None,
        "error": None,
        "definition": experiment.definition,
    }


def _results(rows: list[Record], loaders: Loaders, device: torch.device) -> Summary:
    """What the epochs' lines add up to, over all the processes that wrote them; accuracies are the last epoch's."""
    last = rows[-1]
    trained = sum(row["train_seconds"] for row in rows)
    return {
        "status": "finished",
        "top1": last["top1"],
        "top5": last["top5"],
        "best_top1": max(row["top1"] for row in rows),
        **({"ema_top1": last["ema_top1"]} if "ema_top1" in last else {}),
        "train_seconds": sum(row["seconds"] for row in rows),
        "images_per_second": loaders.train.images * len(rows) / trained,
        "peak_memory_gb": peak_memory_gb(device),
        "ended": now(),
        "error": None,
    }


@contextmanager
def _status(folder: RunFolder) -> Iterator[None]:
    """Leave in the summary how a run ended, if it did not end well."""
    try:
        yield
    except KeyboardInterrupt:
        folder.update_summary(status="interrupted", ended=now())
        raise
    except Exception as error:
        sentence = str(error) if isinstance(error, RoadmapError) else f"{type(error).__name__}: {error}".split("\n")[0]
        folder.update_summary(status="failed", ended=now(), error=sentence)
        if isinstance(error, RoadmapError):
            raise
        if isinstance(error, torch.OutOfMemoryError):
            sentence = "the device ran out of memory; choose a smaller micro_batch_size"
        raise WorkError(sentence) from error


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM, a scheduler's request to stop, as Ctrl-C."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # signals are the main thread's; a launcher may run jobs in others
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@cache
def git_commit() -> str | None:
    """The commit of the code that runs, or None outside a checkout."""
    checkout = Path(__file__).parent.parent
    # an installed package may lie in somebody else's checkout
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
