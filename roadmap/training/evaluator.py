"""The evaluation loop of training and of ``roadmap evaluate``.

for each batch, for each network: forward in autocast; add top-1, top-5 and loss to its sums; collect its predictions
sum over processes, divide by the number of images
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roadmap.data.loaders import ValLoader
from roadmap.errors import WorkError
from roadmap.runs.evaluations import EvaluatedImages, Predictions
from roadmap.runtime.distributed import World

Record = dict[str, Any]


class PredictionCollector:
    """Collects a network's predictions on this process's images, on the device until the end."""

    def __init__(self) -> None:
        self.batches = [torch.empty(3, 0)]
        self.left_out: list[int] = []  # indices of unreadable images

    def add(self, labels: Tensor, predicted: Tensor, logits: Tensor) -> None:
        """Add a batch: labels and predicted classes (n,), fp32 logits (n, classes)."""
        # fp32 represents class indices exactly
        self.batches.append(torch.stack([labels.float(), predicted.float(), logits.softmax(1).amax(1)]))

    def gathered(self, images: EvaluatedImages, world: World) -> Predictions:
        """Return the predictions of all processes, in the order of the data set; every process calls this."""
        own = torch.cat([batch.cpu() for batch in self.batches], dim=1).numpy()
        # each process evaluates a contiguous part of the images, in the order of ranks
        parts = world.gather((own, self.left_out))
        labels, predicted, confidence = np.concatenate([part for part, _ in parts], axis=1)
        left_out = tuple(sorted(index for _, indices in parts for index in indices))
        return Predictions(replace(images, left_out=left_out), labels.astype(int), predicted.astype(int), confidence)


@torch.inference_mode()
def evaluate_networks(
    networks: Sequence[nn.Module],
    val: ValLoader,
    collectors: Sequence[PredictionCollector | None],
    autocast: Callable[[], AbstractContextManager[None]],
    device: torch.device,
    world: World,
) -> list[Record]:
    """Return each network's ``top1`` and ``top5`` in percent and mean ``val_loss`` over all images of ``val``.

    The networks share one pass over the images; ``collectors[i]`` receives the predictions of ``networks[i]``. With
    fewer than five classes top-5 is 100. Raises WorkError in every process if one finds too many unreadable images.
    """
    for network in networks:
        network.eval()
    sums, error = [[torch.zeros(4, device=device)] for _ in networks], None
    try:
        for images, labels in val.batches():
            for network, parts, collector in zip(networks, sums, collectors, strict=True):
                with autocast():
                    logits = network(images).float()
                ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
                correct = ranked == labels[:, None]
                loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
                parts.append(torch.stack([correct[:, 0].sum(), correct.sum(), loss, loss.new_tensor(len(labels))]))
                if collector is not None:
                    collector.add(labels, ranked[:, 0], logits)
    except WorkError as caught:
        error = caught
    world.any_rank(error=error)
    rows = []
    for parts, collector in zip(sums, collectors, strict=True):
        if collector is not None:
            collector.left_out = val.left_out
        top1, top5, loss_sum, count = world.sum(torch.stack(parts).cpu().double().sum(0)).tolist()
        rows.append({"top1": 100 * top1 / count, "top5": 100 * top5 / count, "val_loss": loss_sum / count})
    return rows
