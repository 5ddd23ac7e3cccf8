"""The evaluation loop. Several networks can share one pass over the images, so these are read only once.

for each batch, for each network: forward in autocast; add top-1, top-5 and loss to its sums; inform its observer
sum over processes, divide by the number of images
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from roadmap.data.loaders import ValLoader
from roadmap.errors import WorkError
from roadmap.runtime.distributed import World

Record = dict[str, Any]


class EvalObserver(Protocol):
    """Receives a network's outputs on this process's images during an evaluation."""

    def add(self, labels: Tensor, ranked: Tensor, logits: Tensor) -> None:
        """Receive a batch on the device: labels (n,), the top 5 classes (n, 5), best first, fp32 logits (n, classes).

        With fewer than five classes ``ranked`` has all of them.
        """

    def end(self, left_out: list[int]) -> None:
        """Receive the indices of unreadable images, after the last batch."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates networks on a device, in a precision, in one or more processes."""

    autocast: Callable[[], AbstractContextManager[None]]
    device: torch.device
    world: World

    @torch.inference_mode()
    def run(
        self, networks: Sequence[nn.Module], val: ValLoader, observers: Sequence[EvalObserver | None]
    ) -> list[Record]:
        """Return each network's ``top1`` and ``top5`` in percent and mean ``val_loss`` over all images of ``val``.

        ``observers[i]`` receives the outputs of ``networks[i]``. With fewer than five classes top-5 is 100. Raises
        WorkError in every process if one of them finds too many unreadable images.
        """
        for network in networks:
            self.world.broadcast_buffers(network)
            network.eval()
        sums, error = [[torch.zeros(4, device=self.device)] for _ in networks], None
        try:
            for images, labels in val.batches():
                for network, parts, observer in zip(networks, sums, observers, strict=True):
                    with self.autocast():
                        logits = network(images)
                    parts.append(_batch_sums(logits.float(), labels, observer))
        except WorkError as caught:
            error = caught
        self.world.any_rank(error=error)
        for observer in observers:
            if observer is not None:
                observer.end(val.left_out)
        return [self._means(parts) for parts in sums]

    def _means(self, parts: list[Tensor]) -> Record:
        top1, top5, loss, images = self.world.sum(torch.stack(parts).cpu().double().sum(0)).tolist()
        return {"top1": 100 * top1 / images, "top5": 100 * top5 / images, "val_loss": loss / images}


def _batch_sums(logits: Tensor, labels: Tensor, observer: EvalObserver | None) -> Tensor:
    """Return a batch's number of correct top-1 and top-5 answers, its summed loss and its number of images."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    correct = ranked == labels[:, None]
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    if observer is not None:
        observer.add(labels, ranked, logits)
    return torch.stack([correct[:, 0].sum(), correct.sum(), loss, torch.tensor(len(labels), device=logits.device)])
