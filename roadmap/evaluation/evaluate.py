"""Trained networks evaluated: those that see the same images the same way together, a part of the images at a time."""

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

from roadmap.data.eval_splits import Part, corrupted_parts, open_parts
from roadmap.errors import RequestError
from roadmap.evaluation.calibration import BINS, calibration_error, class_accuracies
from roadmap.evaluation.task import EvaluationTask
from roadmap.runs.evaluation_record import EvaluationRecord, make_folder, write_record
from roadmap.runs.predictions import EvaluatedImages, Predictions, write_predictions
from roadmap.runs.run_folder import now
from roadmap.runtime.device import autocast, within_memory
from roadmap.runtime.distributed import World
from roadmap.runtime.progress import QUIET_SECONDS
from roadmap.training.evaluator import Evaluator, Record
from roadmap.training.prediction_writer import Answered, PredictionWriter
from roadmap.training.summary import git_commit
from roadmap.validation import SCHEMA
from roadmap.versions import package_versions

logger = logging.getLogger(__name__)


def examine(
    exams: Sequence[EvaluationTask], device: torch.device, world: World, force: bool
) -> list[tuple[EvaluationRecord, bool]]:
    """The record of each exam, and whether it was there already; made anew with ``force``.

    Every process calls this; the first one writes, each group's records when the group is done. Raises RequestError
    where data or a network cannot take part, and WorkError where an image cannot be read or a file be written.
    """
    found = world.from_first([None if force else one.kept() for one in exams])
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(exams):
        if found[number] is None:
            groups.setdefault((one.data, one.view, one.corruptions, one.save_predictions), []).append(number)
    made: dict[int, EvaluationRecord] = {}
    for numbers in groups.values():
        records = _examine_alike([exams[number] for number in numbers], device, world)
        made |= dict(zip(numbers, records, strict=True))
    return [(made.get(number) or found[number], number not in made) for number in range(len(exams))]


def _examine_alike(exams: Sequence[EvaluationTask], device: torch.device, world: World) -> list[EvaluationRecord]:
    """The records of exams that differ in their networks alone."""
    first, started = exams[0], now()
    with world.together():
        parts = open_parts(first.data, first.view, world, device)
        if first.corruptions is not None:
            parts += corrupted_parts(first.data, first.view, first.corruptions, world, device)
        networks = [_built(one, parts, device) for one in exams]
    evaluator = Evaluator(autocast(device, first.view.precision), device, world)
    records = [_opening(one, parts, device, world, started) for one in exams]
    label = first.trained.label if len(exams) == 1 else f"{len(exams)} networks"
    for part in _told(parts, label, shown=world.first and len(parts) > 1):
        with within_memory("choose a smaller batch_size, or fewer runs at once"):
            rows = _examine_part(part, networks, evaluator, exams, records)
        for record, row in zip(records, rows, strict=True):
            record["parts"].append(row)
    with world.together():
        for one, record in zip(exams, records, strict=True):
            record["ended"] = now()
            if world.first:
                write_record(one.file, record)
    return records


def _examine_part(
    part: Part,
    networks: Sequence[nn.Module],
    evaluator: Evaluator,
    exams: Sequence[EvaluationTask],
    records: list[EvaluationRecord],
) -> list[Record]:
    """A part's row of each record; its predictions are written, and of a whole set the classes' accuracies noted."""
    world = evaluator.world
    with world.together():
        loader = part.open()
    competing = [network if part.classes is None else Competing(network, part.classes) for network in networks]
    answers = [PredictionWriter() for _ in exams]
    means = evaluator.run(competing, loader, answers)
    digest = loader.source.digest() if world.first else ""
    rows = []
    with world.together():
        for one, record, mean, answer in zip(exams, records, means, answers, strict=True):
            answered = answer.gathered(world)
            right = answered.right(part.accepted)
            row = {"part": part.name, "images": len(right), "left_out": len(answered.left_out), "digest": digest}
            rows.append(row | _figures(answered, right, mean, part))
            if not part.name:
                counts, accuracies = class_accuracies(answered.labels, right, part.num_classes)
                record |= {"class_images": counts, "class_top1": accuracies}
            if world.first and (not part.name or one.save_predictions):
                _save(one, part, answered, digest)
    return rows


def _figures(answered: Answered, right: np.ndarray, mean: Record, part: Part) -> Record:
    """``top1``, ``top5`` and ``ece`` in percent, and the mean ``loss``.

    Of images with several right answers only the first: what the others are of is one label each.
    """
    if part.accepted is not None:
        return {"top1": 100 * int(right.sum()) / len(right), "top5": None, "loss": None, "ece": None}
    ece = calibration_error(answered.confidence, right)
    return {"top1": mean["top1"], "top5": mean["top5"], "loss": mean["val_loss"], "ece": ece}


class Competing(nn.Module):
    """A network whose answer is one of some ``classes``: the logits of all others are put to -inf."""

    def __init__(self, network: nn.Module, classes: Sequence[int]):
        super().__init__()
        self.network, self.classes = network, list(classes)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        masked = torch.full_like(logits, -torch.inf)
        masked[:, self.classes] = logits[:, self.classes]
        return masked


def _built(one: EvaluationTask, parts: Sequence[Part], device: torch.device) -> nn.Module:
    """The network on the device; RequestError where it has other classes than the data or cannot take the size."""
    trained, classes, size = one.trained, parts[0].num_classes, one.view.image_size
    if trained.num_classes not in (None, classes):
        raise RequestError(
            f"{trained.label} tells {trained.num_classes} classes apart, and {one.data.name} has {classes}; "
            "evaluate it on data with the classes that it was trained for"
        )
    network = trained.make(size, classes)
    memory_format = torch.channels_last if one.view.channels_last else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, size, size, device=device))
    # what networks check a size with; torchvision's Transformers by assertions
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"image_size={size}: {trained.label} cannot take images of this size ({reason})") from error
    return network


def _opening(
    one: EvaluationTask, parts: Sequence[Part], device: torch.device, world: World, started: str
) -> EvaluationRecord:
    """A record without its results."""
    trained, view = one.trained, one.view
    chosen_here = Path(trained.checkpoint["file"]).name == "best.pt" and one.data == trained.data
    return {
        "schema": SCHEMA,
        "key": one.key,
        "conditions": one.conditions,
        "label": trained.label,
        **trained.run,
        "checkpoint": trained.checkpoint,
        # the best of many epochs on these very images is better than it will be on others
        "chosen_on_these_images": chosen_here,
        "data": one.data.name,
        "image_size": view.image_size,
        "crop_ratio": view.crop_ratio,
        "interpolation": view.interpolation,
        "precision": view.precision,
        "corruptions": one.corruptions and one.corruptions.to_dict(),
        "num_classes": parts[0].num_classes,
        "calibration_bins": BINS,
        "definition": one.definition,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "channels_last": view.channels_last,
        "batch_size": view.batch_size,
        "processes": world.size,
        "git_commit": git_commit(),
        "versions": package_versions(),
        "started": started,
        "ended": None,
        "class_images": None,
        "class_top1": None,
        "parts": [],
    }


def _save(one: EvaluationTask, part: Part, answered: Answered, digest: str) -> None:
    """Write a part's predictions beside the record."""
    images = EvaluatedImages(
        f"{one.data.name}/{part.name}".rstrip("/"),
        digest,
        one.view.image_size,
        one.view.crop_ratio,
        tuple(answered.left_out),
    )
    file = one.predictions_file(part.name)
    make_folder(file.parent)
    write_predictions(file, Predictions(images, answered.labels, answered.predicted, answered.confidence))


def _told(parts: Sequence[Part], label: str, shown: bool) -> Iterator[Part]:
    """Yield each part, with a progress bar in a terminal and a message now and then elsewhere."""
    spoke = time.monotonic()
    # None: only in a terminal
    disable = None if shown and logger.isEnabledFor(logging.WARNING) else True
    for number, part in enumerate(tqdm(parts, desc=label, leave=False, disable=disable), start=1):
        if shown and not sys.stderr.isatty() and time.monotonic() - spoke > QUIET_SECONDS:
            logger.info(f"{label}: part {number} of {len(parts)}, {part.name}")
            spoke = time.monotonic()
        yield part
