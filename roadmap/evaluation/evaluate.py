"""Evaluation of trained networks; networks that take the same images share one pass over them."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from roadmap.data.eval_splits import eval_parts, open_part
from roadmap.data.robustness_sets import Part
from roadmap.errors import RequestError
from roadmap.evaluation.calibration import BINS, calibration_error, class_accuracies
from roadmap.evaluation.task import EvaluationTask
from roadmap.runs.evaluations import (
    EvaluatedImages,
    EvaluationRecord,
    Predictions,
    make_folder,
    write_evaluation,
    write_predictions,
)
from roadmap.runs.run_folder import now
from roadmap.runtime.device import autocast, within_memory
from roadmap.runtime.distributed import World
from roadmap.runtime.progress import QUIET_SECONDS
from roadmap.training.evaluator import Evaluator, Record
from roadmap.training.prediction_writer import GatheredPredictions, PredictionWriter
from roadmap.training.summary import git_commit
from roadmap.validation import SCHEMA
from roadmap.versions import package_versions

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
    first, started = tasks[0], now()
    with world.collective_errors():
        parts = eval_parts(first.data, first.settings.image_size, first.corruptions)
        networks = [_build_network(task, parts[0].num_classes, device) for task in tasks]
    evaluator = Evaluator(autocast(device, first.settings.precision), device, world)
    records = [_new_record(task, parts[0].num_classes, device, world, started) for task in tasks]
    label = first.model.label if len(tasks) == 1 else f"{len(tasks)} networks"
    for part in _with_progress(parts, label, shown=world.is_main and len(parts) > 1):
        with within_memory("choose a smaller batch_size, or fewer runs at once"):
            rows = _evaluate_part(part, networks, evaluator, tasks, records)
        for record, row in zip(records, rows, strict=True):
            record["parts"].append(row)
    with world.collective_errors():
        for task, record in zip(tasks, records, strict=True):
            record["ended"] = now()
            if world.is_main:
                write_evaluation(task.file, record)
    return records


def _evaluate_part(
    part: Part,
    networks: Sequence[nn.Module],
    evaluator: Evaluator,
    tasks: Sequence[EvaluationTask],
    records: list[EvaluationRecord],
) -> list[Record]:
    """Return each network's row for a part; also write predictions, and a whole set's class accuracies."""
    world = evaluator.world
    with world.collective_errors():
        loader = open_part(part, tasks[0].settings, tasks[0].data.max_corrupt, world, evaluator.device)
    if part.classes is not None:
        networks = [MaskedLogits(network, part.classes) for network in networks]
    writers = [PredictionWriter() for _ in tasks]
    means = evaluator.run(networks, loader, writers)
    digest = loader.source.digest() if world.is_main else ""
    rows = []
    with world.collective_errors():
        for task, record, mean, writer in zip(tasks, records, means, writers, strict=True):
            answered = writer.gathered(world)
            correct = answered.correct(part.accepted)
            row = {"part": part.name, "images": len(correct), "left_out": len(answered.left_out), "digest": digest}
            rows.append(row | _metrics(answered, correct, mean, part))
            if not part.name:
                counts, accuracies = class_accuracies(answered.labels, correct, part.num_classes)
                record |= {"class_images": counts, "class_top1": accuracies}
            if world.is_main and (not part.name or task.save_predictions):
                _save_predictions(task, part, answered, digest)
    return rows


def _metrics(answered: GatheredPredictions, correct: np.ndarray, mean: Record, part: Part) -> Record:
    """``top1``, ``top5`` and ``ece`` in percent and the mean ``loss``; only ``top1`` with several accepted labels."""
    if part.accepted is not None:
        return {"top1": 100 * int(correct.sum()) / len(correct), "top5": None, "loss": None, "ece": None}
    ece = calibration_error(answered.confidence, correct)
    return {"top1": mean["top1"], "top5": mean["top5"], "loss": mean["val_loss"], "ece": ece}


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
    """The network on the device. Raises RequestError if its classes differ from the data's or the size is too small."""
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


def _new_record(
    task: EvaluationTask, num_classes: int, device: torch.device, world: World, started: str
) -> EvaluationRecord:
    """A record without results."""
    model, settings = task.model, task.settings
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
        "image_size": settings.image_size,
        "crop_ratio": settings.crop_ratio,
        "interpolation": settings.interpolation,
        "precision": settings.precision,
        "corruptions": task.corruptions and task.corruptions.to_dict(),
        "num_classes": num_classes,
        "calibration_bins": BINS,
        "definition": task.definition,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "channels_last": settings.channels_last,
        "batch_size": settings.batch_size,
        "processes": world.size,
        "git_commit": git_commit(),
        "versions": package_versions(),
        "started": started,
        "ended": None,
        "class_images": None,
        "class_top1": None,
        "parts": [],
    }


def _save_predictions(task: EvaluationTask, part: Part, answered: GatheredPredictions, digest: str) -> None:
    name = f"{task.data.name}/{part.name}".rstrip("/")
    settings = task.settings
    images = EvaluatedImages(name, digest, settings.image_size, settings.crop_ratio, tuple(answered.left_out))
    file = task.predictions_file(part.name)
    make_folder(file.parent)
    write_predictions(file, Predictions(images, answered.labels, answered.predicted, answered.confidence))


def _with_progress(parts: Sequence[Part], label: str, shown: bool) -> Iterator[Part]:
    """Yield each part, with a progress bar in a terminal and occasional log messages elsewhere."""
    last = time.monotonic()
    disable = None if shown and logger.isEnabledFor(logging.WARNING) else True  # None: only in a terminal
    for number, part in enumerate(tqdm(parts, desc=label, leave=False, disable=disable), start=1):
        if shown and not sys.stderr.isatty() and time.monotonic() - last > QUIET_SECONDS:
            logger.info(f"{label}: part {number} of {len(parts)}, {part.name}")
            last = time.monotonic()
        yield part
