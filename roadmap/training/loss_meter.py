"""The training losses of an epoch."""

import math

import torch
from torch import Tensor

from roadmap.errors import WorkError


class LossMeter:
    """Sum and count of an epoch's losses; ``error`` describes the first one that is not finite.

    Reading a loss makes the CPU wait for the GPU, so losses are read in batches of ``every``.
    """

    def __init__(self, every: int):
        self.every = every
        self.pending: list[tuple[Tensor, str, float]] = []  # loss, its update, learning rate
        self.start(0.0, 0)

    def start(self, total: float, count: int) -> None:
        """Start an epoch, or resume in the middle of one."""
        self.total, self.count = total, count
        self.last_finite: float | None = None
        self.error: WorkError | None = None

    def add(self, losses: list[Tensor], update: str, lr: float) -> None:
        """Add the losses of one update's micro batches."""
        self.pending += [(loss, update, lr) for loss in losses]
        if len(self.pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Read the pending losses from the device."""
        if not self.pending:
            return
        values = torch.stack([loss for loss, _, _ in self.pending]).tolist()
        for value, (_, update, lr) in zip(values, self.pending, strict=True):
            if math.isfinite(value):
                self.total, self.count, self.last_finite = self.total + value, self.count + 1, value
            elif self.error is None:
                before = (
                    "it was the first loss"
                    if self.last_finite is None
                    else f"the loss before was {self.last_finite:.4g}"
                )
                self.error = WorkError(
                    f"the loss became {value} in {update} at learning rate {lr:.3g} ({before}); the last checkpoint is "
                    "from before; try a lower recipe.optimizer.lr, precision=fp32 or a higher max_skipped_updates"
                )
        self.pending.clear()
