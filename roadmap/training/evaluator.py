"""The evaluation loop: networks on the same images, each image counted once in any number of processes.

Several networks share a pass over the images, so that reading or corrupting these costs as much as for one.
"""

from collections.abc import Callable, Iterator, Sequence
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
    """Takes down what this process's network answers in an evaluation."""

    def add(self, labels: Tensor, ranked: Tensor, logits: Tensor) -> None:
        """A batch: labels (n,), the likeliest five classes (n, 5), best first, and fp32 logits (n, classes).

        On the device; of fewer than five classes all.
        """

    def end(self, left_out: list[int]) -> None:
        """After the last batch, the numbers of the images that could not be read."""


@dataclass(frozen=True)
class Evaluator:
    """Where and in which precision networks are evaluated."""

    autocast: Callable[[], AbstractContextManager[None]]
    device: torch.device
    world: World

    @torch.inference_mode()
    def run(self, networks: Sequence[nn.Module], val: ValLoader, notes: Sequence[EvalObserver | None]) -> list[Record]:
        """Of each network ``top1`` and ``top5`` in percent and the mean ``val_loss`` over every image of ``val``.

        ``notes[i]`` takes down what the i-th network answers. With fewer than five classes top-5 is 100. Raises
        WorkError, in every process, where one meets an image too many that cannot be read.
        """
        for network in networks:
            self.world.share_buffers(network)
            network.eval()
        parts, error = [[torch.zeros(4, device=self.device)] for _ in networks], None
        try:
            for network, images, labels, number in _turns(networks, val):
                with self.autocast():
                    logits = network(images)
                logits = logits.float()
                ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
                right = ranked == labels[:, None]
                loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
                seen = torch.tensor(len(labels), device=self.device)
                parts[number].append(torch.stack([right[:, 0].sum(), right.sum(), loss, seen]))
                if (note := notes[number]) is not None:
                    note.add(labels, ranked, logits)
        except WorkError as met:
            error = met
        self.world.agree(error)
        for note in notes:
            if note is not None:
                note.end(val.left_out)
        return [self._means(sums) for sums in parts]

    def _means(self, parts: list[Tensor]) -> Record:
        top1, top5, loss, seen = self.world.sum(torch.stack(parts).cpu().double().sum(0)).tolist()
        return {"top1": 100 * top1 / seen, "top5": 100 * top5 / seen, "val_loss": loss / seen}


def _turns(networks: Sequence[nn.Module], val: ValLoader) -> Iterator[tuple[nn.Module, Tensor, Tensor, int]]:
    """Every network with its number on every batch: images (n, 3, S, S), labels (n,)."""
    for images, labels in val.batches():
        for number, network in enumerate(networks):
            yield network, images, labels, number
