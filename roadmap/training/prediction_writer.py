"""A network's predictions while it is evaluated, in every process, and their way into the run's folder."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from roadmap.data import open_loaders
from roadmap.errors import WorkError
from roadmap.runs.predictions import PREDICTIONS, EvaluatedImages, Predictions, write_predictions
from roadmap.runs.run_folder import RunFolder
from roadmap.runtime.distributed import World
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import Checkpoints
from roadmap.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answered:
    """What a network answered on the n images evaluated, over all processes, in the data set's order.

    ``labels`` and ``predicted`` (n,) are class numbers, ``confidence`` (n,) the predicted class's probability, and
    ``left_out`` the numbers of the images without an answer.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    left_out: list[int]

    def right(self, accepted: Sequence[Collection[int]] | None = None) -> np.ndarray:
        """Whether each image's answer is its label, bool (n,); or one of those that are ``accepted`` for it."""
        if accepted is None:
            return self.labels == self.predicted
        return np.array([one in those for one, those in zip(self.predicted.tolist(), accepted, strict=True)], bool)


class PredictionWriter:
    """Labels, predicted classes and their probabilities of this process's images, on the device until the end."""

    def __init__(self) -> None:
        self.batches = [torch.empty(3, 0)]
        self.left_out: list[int] = []

    def add(self, labels: Tensor, ranked: Tensor, logits: Tensor) -> None:
        """Take in a batch: labels (n,), ranked classes (n, 5) and logits (n, classes)."""
        # fp32 holds class numbers exactly
        self.batches.append(torch.stack([labels.float(), ranked[:, 0].float(), logits.softmax(1).amax(1)]))

    def end(self, left_out: list[int]) -> None:
        """Take in which of this process's images have no answer, by number."""
        self.left_out = left_out

    def gathered(self, world: World) -> Answered:
        """All processes' answers; every process calls this."""
        own = torch.cat([batch.cpu() for batch in self.batches], dim=1).numpy()
        # a process has one stretch of the images, so the order of ranks is the data set's
        parts = world.gather((own, self.left_out))
        labels, predicted, confidence = np.concatenate([part for part, _ in parts], axis=1)
        left_out = sorted(number for _, left_out in parts for number in left_out)
        return Answered(labels.astype(int), predicted.astype(int), confidence, left_out)

    def save(self, experiment: Experiment, trainer: Trainer, folder: RunFolder, top1: float) -> None:
        """Write all processes' answers, if they amount to the accuracy that the run logged; say so if they do not.

        Every process calls this. Raises WorkError where the file cannot be written.
        """
        answered = self.gathered(trainer.world)
        with trainer.world.together():
            if trainer.world.first:
                images = EvaluatedImages(
                    experiment.data.name,
                    trainer.val.source.digest(),
                    experiment.image_size,
                    experiment.recipe.eval_crop_ratio,
                    tuple(answered.left_out),
                )
                predictions = Predictions(images, answered.labels, answered.predicted, answered.confidence)
                if predictions.top1 != top1:
                    logger.warning(
                        f"no predictions saved: evaluated again, the network of {folder.path} has top-1 "
                        f"{predictions.top1:.4f} %, not the {top1:.4f} % that was logged, on another device perhaps"
                    )
                    return
                write_predictions(folder.path / PREDICTIONS, predictions)


def predict_again(experiment: Experiment, folder: RunFolder, top1: float, device: torch.device, world: World) -> None:
    """Evaluate a finished run's last checkpoint for the predictions it lacks; say so where there is none to evaluate.

    Raises RequestError where its data is gone, and WorkError where an image cannot be read or the file be written.
    """
    if world.from_first((folder.path / PREDICTIONS).is_file()):
        return
    try:
        state = Checkpoints(folder.checkpoints, experiment.run_id).load(device)
    except WorkError:
        state = None
    (missing,) = world.agree(None, state is None)
    if state is None or missing:
        if world.first:
            logger.warning(
                f"no predictions saved: {folder.path} is finished and has no last.pt that can be read; "
                "choose another runs_dir to train it again"
            )
        return
    with world.together():
        trainer = build_trainer(experiment, open_loaders(experiment, device, world), device, world, StopRequest())
        trainer.load_state(state)
    answers = PredictionWriter()
    trainer.evaluate(trainer.network, answers)
    answers.save(experiment, trainer, folder, top1)
