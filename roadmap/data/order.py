"""Which images are taken, and in which order; the same for every source."""

import torch
from torch import Tensor

from roadmap.errors import RequestError
from roadmap.seeds import derived_seed


def epoch_order(count: int, shuffle_by: int | None, epoch: int) -> Tensor:
    """Indices of ``count`` images, int64: as they are, or shuffled by a run's seed and the epoch."""
    if shuffle_by is None:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(derived_seed(shuffle_by, "order", epoch))
    return torch.randperm(count, generator=generator)


def stratified_split(labels: list[int], held_out: float | int) -> tuple[list[int], list[int]]:
    """Two lists of indices, the same at every call, each with the classes in equal shares; a share or a count."""
    from sklearn.model_selection import train_test_split

    try:
        kept, out = train_test_split(range(len(labels)), test_size=held_out, stratify=labels, random_state=0)
    except ValueError as error:
        raise RequestError(f"cannot hold out {held_out} of {len(labels)} images: {error}") from error
    return sorted(kept), sorted(out)
