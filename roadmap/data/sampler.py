"""Which images are taken, in which order and by which process; the same for every source."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from roadmap.errors import RequestError
from roadmap.seeds import derived_seed


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Indices of ``count`` images, int64, shuffled by a run's seed and the epoch."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


@dataclass(frozen=True)
class TrainingShare:
    """What one of ``processes`` trains on: in every update its share of the ``batch_size`` images.

    An update takes the next ``batch_size`` images of the epoch's order, cut into micro batches; the processes take
    these in turn: of two processes with two accumulation steps the first takes micro batches 0 and 2 of each update.
    So every split of the batch into processes and steps sees the same images in the same update, and one into equal
    micro batches the same micro batches. What fills no update is left out, other images in each epoch.
    """

    images: int
    batch_size: int
    micro_batch_size: int
    seed: int
    rank: int
    processes: int

    @property
    def updates(self) -> int:
        """Updates in an epoch."""
        return self.images // self.batch_size

    @property
    def accumulation(self) -> int:
        """Micro batches of this process in an update."""
        return self.batch_size // (self.micro_batch_size * self.processes)

    def micro_batches(self, epoch: int, first_update: int) -> Iterator[tuple[int, Tensor]]:
        """From ``first_update`` on, each micro batch's number in the epoch, over all processes, and its images."""
        order = epoch_order(self.images, self.seed, epoch)
        per_update = self.batch_size // self.micro_batch_size
        for update in range(first_update, self.updates):
            for part in range(self.rank, per_update, self.processes):
                number = update * per_update + part
                yield number, order[number * self.micro_batch_size :][: self.micro_batch_size]


def evaluation_share(images: int, batch_size: int, rank: int, processes: int) -> list[Tensor]:
    """The batches that one of ``processes`` evaluates: together they hold every image once, none twice."""
    begin, end = images * rank // processes, images * (rank + 1) // processes
    return list(torch.arange(begin, end).split(batch_size)) if end > begin else []


def stratified_split(labels: list[int], held_out: float | int) -> tuple[list[int], list[int]]:
    """Two lists of indices, the same at every call, each with the classes in equal shares; a share or a count.

    The image of a class that has no other, as some of ImageNet-22K's have not, stays in the first.
    """
    from sklearn.model_selection import train_test_split

    counts = Counter(labels)
    shared = [index for index, label in enumerate(labels) if counts[label] > 1]
    try:
        kept, out = train_test_split(
            shared, test_size=held_out, stratify=[labels[index] for index in shared], random_state=0
        )
    except ValueError as error:
        raise RequestError(f"cannot hold out {held_out} of {len(labels)} images: {error}") from error
    alone = [index for index, label in enumerate(labels) if counts[label] == 1]
    return sorted([*kept, *alone]), sorted(out)
