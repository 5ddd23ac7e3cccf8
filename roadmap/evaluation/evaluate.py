"""Evaluation of trained networks; networks that take the same images share one pass over them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from roadmap.data.eval_splits import eval_parts, open_part
from roadmap.data.robustness_sets import Part
from roadmap.errors import RequestError
from roadmap.evaluation.calibration import BINS, calibration_error, calibration_floor
from roadmap.evaluation.task import EvaluationTask
from roadmap.runs.evaluations import (
    EvaluatedImages,
    EvaluationRecord,
    make_folder,
    write_evaluation,
    write_predictions,
)
from roadmap.runs.run_folder import now
from roadmap.runtime.device import autocast, within_memory
from roadmap.runtime.distributed import World
from roadmap.training.evaluator import PredictionCollector, evaluate_networks
from roadmap.validation import SCHEMA
from roadmap.versions import git_commit, package_versions

logger = logging.getLogger(__name__)


def evaluate_tasks(
    tasks: Sequence[EvaluationTask], device: torch.device, world: World, force: bool
) -> list[tuple[EvaluationRecord, bool]]:
    """Return each task's record and whether it already existed; ``force`` evaluates again.

    Every process calls this; the first one writes the records of a group of tasks when the group is done. Raises
    RequestError if data or a network cannot be used, and WorkError if an image cannot be read or a file written.
    """
    existing = world.broadcast([None if force else task.existing_record() for task in tasks])
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, task in enumerate(tasks):
        if existing[index] is None:
            groups.setdefault((task.data, task.settings, task.corruptions, task.save_predictions), []).append(index)
    new: dict[int, EvaluationRecord] = {}
    for indices in groups.values():
        records = _evaluate_group([tasks[index] for index in indices], device, world)
        new |= dict(zip(indices, records, strict=True))
    return [(new.get(index) or existing[index], index not in new) for index in range(len(tasks))]


def _evaluate_group(tasks: Sequence[EvaluationTask], device: torch.device, world: World) -> list[EvaluationRecord]:
    """Evaluate tasks that differ only in their networks."""
    first = tasks[0]
    with world.collective_errors():
        parts = eval_parts(first.data, first.settings.image_size, first.corruptions)
        networks = [_build_network(task, parts[0].num_classes, device) for task in tasks]
    records = [_new_record(task, parts[0].num_classes, device, world) for task in tasks]
    label = first.model.label if len(tasks) == 1 else f"{len(tasks)} networks"
    shown = world.is_main and len(parts) > 1 and logger.isEnabledFor(logging.WARNING)
    # None: only in a terminal
    for part in tqdm(parts, desc=label, leave=False, disable=None if shown else True):
        with within_memory("choose a smaller batch_size, or fewer runs at once"):
            _evaluate_part(part, networks, tasks, records, device, world)
    with world.collective_errors():
        for task, record in zip(tasks, records, strict=True):
            record["ended"] = now()
            if world.is_main:
                write_evaluation(task.file, record)
    return records


def _evaluate_part(
    part: Part,
    networks: Sequence[nn.Module],
    tasks: Sequence[EvaluationTask],
    records: list[EvaluationRecord],
    device: torch.device,
    world: World,
) -> None:
    """Add each network's results on a part to its record; write its predictions."""
    data, settings = tasks[0].data, tasks[0].settings
    with world.collective_errors():
        loader = open_part(part, settings, data.max_corrupt, world, device)
    if part.classes is not None:
        networks = [MaskedLogits(network, part.classes) for network in networks]
    collectors = [PredictionCollector() for _ in tasks]
    in_precision = autocast(device, settings.precision)
    means = evaluate_networks(networks, loader, collectors, in_precision, device, world)
    digest = loader.source.digest() if world.is_main else ""
    name = f"{data.name}/{part.name}".rstrip("/")
    images = EvaluatedImages(name, digest, settings.image_size, settings.crop_ratio, (), settings.resize)
    with world.collective_errors():
        for task, record, mean, collector in zip(tasks, records, means, collectors, strict=True):
            predictions = collector.gathered(images, world)
            correct, top5, loss, ece = predictions.right, mean["top5"], mean["val_loss"], None
            floor = None
            if part.accepted is None:
                ece = calibration_error(predictions.confidence, correct)
                floor = calibration_floor(predictions.confidence)
            else:  # several correct classes per image: only top-1 is defined
                pairs = zip(predictions.predicted.tolist(), part.accepted, strict=True)
                correct, top5, loss = np.array([one in classes for one, classes in pairs]), None, None
            row = {"part": part.name, "images": len(correct), "left_out": len(predictions.images.left_out)}
            row |= {"digest": digest, "top1": 100 * int(correct.sum()) / len(correct)}
            record["parts"].append(row | {"top5": top5, "loss": loss, "ece": ece, "ece_floor": floor})
            if not part.name:
                counts, accuracies = class_accuracies(predictions.labels, correct, part.num_classes)
                record |= {"class_images": counts, "class_top1": accuracies}
            if world.is_main and (not part.name or task.save_predictions):
                file = task.predictions_file(part.name)
                make_folder(file.parent)
                write_predictions(file, predictions)


def class_accuracies(labels: np.ndarray, correct: np.ndarray, num_classes: int) -> tuple[list[int], list[float | None]]:
    """Return the number of images and the accuracy in percent of each class; None for a class without images."""
    images = np.bincount(labels, minlength=num_classes).tolist()
    hits = np.bincount(labels, correct, num_classes).tolist()
    return images, [100 * hit / count if count else None for hit, count in zip(hits, images, strict=True)]


class MaskedLogits(nn.Module):
    """A network restricted to some ``classes``: all other logits are -inf."""

    def __init__(self, network: nn.Module, classes: Sequence[int]):
        super().__init__()
        self.network, self.classes = network, list(classes)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        masked = torch.full_like(logits, -torch.inf)
        masked[:, self.classes] = logits[:, self.classes]
        return masked


def _build_network(task: EvaluationTask, num_classes: int, device: torch.device) -> nn.Module:
    """Return the network on the device. Raises RequestError if its classes or image size differ from the data's."""
    model, size = task.model, task.settings.image_size
    if model.num_classes not in (None, num_classes):
        raise RequestError(
            f"{model.label} has {model.num_classes} classes, but {task.data.name} has {num_classes}; "
            "choose data with the classes of its training"
        )
    network = model.make(size, num_classes)
    memory_format = torch.channels_last if task.settings.channels_last else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, size, size, device=device))
    # torchvision's Transformers check the size by assertions
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"image_size={size}: {model.label} cannot take images of this size ({reason})") from error
    return network


def _new_record(task: EvaluationTask, num_classes: int, device: torch.device, world: World) -> EvaluationRecord:
    model, settings = task.model, task.settings
    same_name = ("image_size", "crop_ratio", "interpolation", "resize", "precision", "channels_last", "batch_size")
    return {
        "schema": SCHEMA,
        "key": task.key,
        "conditions": task.conditions,
        "label": model.label,
        **model.run,
        "checkpoint": model.checkpoint,
        # selected on these images, so its accuracy on them is optimistic
        "chosen_on_these_images": Path(model.checkpoint["file"]).name == "best.pt" and task.data == model.data,
        "data": task.data.name,
        **{name: getattr(settings, name) for name in same_name},
        "corruptions": task.corruptions and task.corruptions.to_dict(),
        "num_classes": num_classes,
        "calibration_bins": BINS,
        "definition": task.definition,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": world.size,
        "git_commit": git_commit(),
        "versions": package_versions(),
        "started": now(),
        "class_images": None,
        "class_top1": None,
        "parts": [],
    }
