"""The losses of an epoch's micro batches."""

import math

import torch
from torch import Tensor

from roadmap.errors import WorkError


class Losses:
    """Sum and number of an epoch's losses; ``error`` says in one sentence what came of one that is not finite.

    Reading a loss makes a GPU wait for it, so there they are read ``every`` so many at once, on a CPU one by one.
    """

    def __init__(self, every: int):
        self.every = every
        self.pending: list[tuple[Tensor, str, float]] = []  # loss, which update, its learning rate
        self.start(0.0, 0)

    def start(self, total: float, count: int) -> None:
        """Begin an epoch, or go on in its middle."""
        self.total, self.count = total, count
        self.last_finite: float | None = None
        self.error: WorkError | None = None

    def add(self, losses: list[Tensor], update: str, lr: float) -> None:
        """Losses of one update's micro batches."""
        self.pending += [(loss, update, lr) for loss in losses]
        if len(self.pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Take in what is pending."""
        if not self.pending:
            return
        values = torch.stack([loss for loss, _, _ in self.pending]).tolist()
        for value, (_, update, lr) in zip(values, self.pending, strict=True):
            if math.isfinite(value):
                self.total, self.count, self.last_finite = self.total + value, self.count + 1, value
            elif self.error is None:
                before = (
                    "it was the first" if self.last_finite is None else f"the one before was {self.last_finite:.4g}"
                )
                self.error = WorkError(
                    f"the loss became {value} in {update} at learning rate {lr:.3g}, {before}; the last checkpoint is "
                    "from before that; try a lower recipe.optimizer.lr, precision=fp32, or allow max_skipped_updates"
                )
        self.pending.clear()
