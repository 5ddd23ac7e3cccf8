"""The content of ``summary.json``: the initial fields of a run, and its results."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from roadmap.data import Loaders
from roadmap.data.loaders import DistributedBatchSampler
from roadmap.networks.flops import cost
from roadmap.runs.run_folder import now
from roadmap.runtime.device import peak_memory_gb
from roadmap.schema.experiment import Experiment
from roadmap.training.trainer import Record, Trainer
from roadmap.validation import SCHEMA
from roadmap.versions import package_versions

Summary = dict[str, Any]


def initial_summary(experiment: Experiment, loaders: Loaders, network: nn.Module, device: torch.device) -> Summary:
    """Return the summary of a run that starts or resumes."""
    network_cost = cost(network, experiment.image_size)
    share = loaders.train.share
    return {
        "schema": SCHEMA,
        "run_id": experiment.run_id,
        "status": "running",
        "regime": experiment.regime,
        "step": experiment.step,
        "variant": experiment.variant,
        "design": experiment.design.to_dict(),
        "seed": experiment.seed,
        "data": experiment.data.name,
        "recipe": experiment.recipe.name,
        "pretrained": experiment.pretrained,
        "epochs": experiment.epochs,
        "batch_size": experiment.batch_size,
        "micro_batch_size": share.micro_batch_size,
        "accumulation": share.accumulation,
        "processes": share.processes,
        "batch_norm_images": _batch_norm_images(experiment, network, share),
        "image_size": experiment.image_size,
        "train_images": loaders.train_images,
        "val_images": loaders.val_images,
        "num_classes": loaders.num_classes,
        "gmacs": network_cost.gmacs,
        "params_m": network_cost.params_m,
        "activations_m": network_cost.activations / 1e6,
        "top1": None,
        "top5": None,
        "best_top1": None,
        "train_seconds": None,
        "images_per_second": None,
        "peak_memory_gb": None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": experiment.precision,
        "git_commit": git_commit(),
        "versions": package_versions(),
        "started": now(),
        "ended": None,
        "error": None,
        "definition": experiment.definition,
    }


def final_results(rows: list[Record], trainer: Trainer) -> Record:
    """Return the results of a finished run, from the rows of all its epochs; accuracies are the last epoch's."""
    last = rows[-1]
    trained = sum(row["train_seconds"] for row in rows)
    return {
        "status": "finished",
        "top1": last["top1"],
        "top5": last["top5"],
        "best_top1": max(row["top1"] for row in rows),
        **({"ema_top1": last["ema_top1"]} if "ema_top1" in last else {}),
        "train_seconds": sum(row["seconds"] for row in rows),
        "images_per_second": trainer.loaders.train.images * len(rows) / trained,
        "data_wait": sum(row["data_wait"] * row["train_seconds"] for row in rows) / trained,
        "peak_memory_gb": peak_memory_gb(trainer.device),
        "skipped_updates": trainer.state.skipped,
        "corrupt_images": len(trainer.loaders.corrupt.found),
        "corrupt_files": sorted(trainer.loaders.corrupt.found),
        "ended": now(),
        "error": None,
    }


def _batch_norm_images(experiment: Experiment, network: nn.Module, share: DistributedBatchSampler) -> int | None:
    """Return the number of images that BN normalises over in training; None without BN."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return None
    return share.micro_batch_size * (share.processes if experiment.settings.sync_batchnorm else 1)


@cache
def git_commit() -> str | None:
    """Return the commit of this code, or None outside a git checkout."""
    checkout = Path(__file__).parents[2]
    # an installed package may lie inside the checkout of another project
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
