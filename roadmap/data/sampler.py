"""The order of images and their distribution over processes, the same for every source."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from roadmap.errors import RequestError
from roadmap.seeds import derived_seed


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of ``count`` indices, int64, from a run's seed and the epoch."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class DistributedBatchSampler:
    """The micro batches of the process ``rank``.

    Each update takes the next ``batch_size`` images of the epoch's order, split into micro batches that the processes
    take in turn: with two processes and two accumulation steps, process 0 takes micro batches 0 and 2. So an update has
    the same images for any number of processes and accumulation steps. Images of an incomplete last update are dropped.
    """

    images: int
    batch_size: int
    micro_batch_size: int
    seed: int
    rank: int
    processes: int

    @property
    def updates(self) -> int:
        """Updates per epoch."""
        return self.images // self.batch_size

    @property
    def accumulation(self) -> int:
        """Micro batches of this process per update."""
        return self.batch_size // (self.micro_batch_size * self.processes)

    def micro_batches(self, epoch: int, first_update: int) -> Iterator[tuple[int, Tensor]]:
        """Each micro batch's number in the epoch (over all processes) and its indices, from ``first_update`` on."""
        order = epoch_order(self.images, self.seed, epoch)
        per_update = self.batch_size // self.micro_batch_size
        for update in range(first_update, self.updates):
            for part in range(self.rank, per_update, self.processes):
                number = update * per_update + part
                yield number, order[number * self.micro_batch_size :][: self.micro_batch_size]


def eval_batches(images: int, batch_size: int, rank: int, processes: int) -> list[Tensor]:
    """The batches of indices that the process ``rank`` evaluates; over all processes, each index occurs once."""
    begin, end = images * rank // processes, images * (rank + 1) // processes
    return list(torch.arange(begin, end).split(batch_size)) if end > begin else []


def stratified_split(labels: list[int], held_out: float | int) -> tuple[list[int], list[int]]:
    """Kept and held-out indices, stratified and deterministic; ``held_out`` is a share or a count.

    The only image of a class, as in ImageNet-22K, is kept.
    """
    from sklearn.model_selection import train_test_split

    counts = Counter(labels)
    several = [index for index, label in enumerate(labels) if counts[label] > 1]
    try:
        kept, out = train_test_split(
            several, test_size=held_out, stratify=[labels[index] for index in several], random_state=0
        )
    except ValueError as error:
        raise RequestError(f"cannot hold out {held_out} of {len(labels)} images: {error}") from error
    single = [index for index, label in enumerate(labels) if counts[label] == 1]
    return sorted([*kept, *single]), sorted(out)
