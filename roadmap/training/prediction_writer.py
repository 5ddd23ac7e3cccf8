"""Collects a network's predictions during an evaluation, and writes them to the run's folder."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from roadmap.data import open_loaders
from roadmap.data.loaders import ValLoader
from roadmap.errors import WorkError
from roadmap.runs.evaluations import PREDICTIONS, EvaluatedImages, Predictions, write_predictions
from roadmap.runs.run_folder import RunFolder
from roadmap.runtime.device import autocast
from roadmap.runtime.distributed import World
from roadmap.schema.experiment import Experiment
from roadmap.training.build import seeded_network
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.evaluator import Evaluator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GatheredPredictions:
    """Predictions for n images, from all processes, in the order of the data set.

    ``labels`` and ``predicted`` (n,) are class indices, ``confidence`` (n,) is the predicted class's probability, and
    ``left_out`` has the indices of unreadable images.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    left_out: list[int]

    def correct(self, accepted: Sequence[Collection[int]] | None = None) -> np.ndarray:
        """Return which predictions equal the label, or are in the image's set of ``accepted`` classes: bool (n,)."""
        if accepted is None:
            return self.labels == self.predicted
        return np.array([one in classes for one, classes in zip(self.predicted.tolist(), accepted, strict=True)], bool)


class PredictionWriter:
    """Collects labels, predictions and confidences of this process's images, on the device until the end."""

    def __init__(self) -> None:
        self.batches = [torch.empty(3, 0)]
        self.left_out: list[int] = []

    def add(self, labels: Tensor, ranked: Tensor, logits: Tensor) -> None:
        """Receive a batch: labels (n,), ranked classes (n, 5) and logits (n, classes)."""
        # fp32 represents class indices exactly
        self.batches.append(torch.stack([labels.float(), ranked[:, 0].float(), logits.softmax(1).amax(1)]))

    def end(self, left_out: list[int]) -> None:
        """Receive the indices of this process's unreadable images."""
        self.left_out = left_out

    def gathered(self, world: World) -> GatheredPredictions:
        """Return the predictions of all processes; every process calls this."""
        own = torch.cat([batch.cpu() for batch in self.batches], dim=1).numpy()
        # each process evaluates a contiguous part of the images, in the order of ranks
        parts = world.gather((own, self.left_out))
        labels, predicted, confidence = np.concatenate([part for part, _ in parts], axis=1)
        left_out = sorted(index for _, indices in parts for index in indices)
        return GatheredPredictions(labels.astype(int), predicted.astype(int), confidence, left_out)

    def save(self, experiment: Experiment, val: ValLoader, folder: RunFolder, world: World, top1: float) -> None:
        """Write the predictions of all processes, or warn if their accuracy is not the ``top1`` that the run logged.

        Every process calls this; only the main one needs ``top1``. Raises WorkError if the file cannot be written.
        """
        gathered = self.gathered(world)
        with world.collective_errors():
            if not world.is_main:
                return
            images = EvaluatedImages(
                experiment.data.name,
                val.source.digest(),
                experiment.image_size,
                experiment.recipe.eval_crop_ratio,
                tuple(gathered.left_out),
            )
            predictions = Predictions(images, gathered.labels, gathered.predicted, gathered.confidence)
            if predictions.top1 == top1:
                write_predictions(folder.path / PREDICTIONS, predictions)
            else:
                logger.warning(
                    f"no predictions saved: evaluating {folder.path} again gives top-1 {predictions.top1:.4f} %, "
                    f"but the run logged {top1:.4f} %; it may have run on another device"
                )


def predict_finished_run(
    experiment: Experiment, folder: RunFolder, top1: float, device: torch.device, world: World
) -> None:
    """Write a finished run's predictions, if missing, by evaluating its last checkpoint; warn if there is none.

    Raises RequestError if the data is missing, WorkError if an image cannot be read or the file cannot be written.
    """
    if world.broadcast((folder.path / PREDICTIONS).is_file()):
        return
    try:
        state = Checkpoints(folder.checkpoints, experiment.run_id).load(device)
    except WorkError:
        state = None
    (missing,) = world.any_rank(state is None)
    if state is None or missing:
        if world.is_main:
            logger.warning(
                f"no predictions saved: {folder.path} is finished but has no readable last.pt; "
                "choose another runs_dir to train it again"
            )
        return
    with world.collective_errors():
        loaders = open_loaders(experiment, device, world)
        loaders.corrupt.add(state["corrupt"])
        network = seeded_network(experiment, loaders.num_classes, device)
        network.load_state_dict(state["network"])
    writer = PredictionWriter()
    Evaluator(autocast(device, experiment.precision), device, world).run([network], loaders.val, [writer])
    writer.save(experiment, loaders.val, folder, world, top1)
