"""The losses of an epoch, read from the device without waiting for it."""

import math
from collections import deque

import torch
from torch import Tensor

from roadmap.errors import WorkError

Place = tuple[str, float]  # update and learning rate


class LossMeter:
    """Sum and count of an epoch's losses; ``error`` describes the first one that is not finite.

    Reading a loss would make the CPU wait for the GPU. So ``every`` so many losses are copied to pinned memory, and
    read once the copy is there. The first ``max_skipped`` skipped updates are counted, and their losses left out.
    """

    def __init__(self, every: int, max_skipped: int = 0):
        self.every, self.max_skipped, self.skipped = every, max_skipped, 0
        # without a place: 1 if the update of the losses that follow was skipped, else 0
        self.pending: list[tuple[Tensor, Place | None]] = []
        self.copies: deque[tuple[Tensor, torch.cuda.Event | None, list[Place | None]]] = deque()
        self.start(0.0, 0)

    def start(self, total: float, count: int) -> None:
        """Start an epoch, or resume in the middle of one."""
        self.total, self.count = total, count
        self.last_finite: float | None = None
        self.error: WorkError | None = None

    def add(self, losses: list[Tensor], update: str, lr: float, skipped: Tensor | None = None) -> None:
        """Add the losses of one update's micro batches, which must not be overwritten later."""
        if skipped is not None:
            self.pending.append((skipped, None))
        self.pending += [(loss, (update, lr)) for loss in losses]
        if len(self.pending) >= self.every:
            self._copy()
        while self.copies and (self.copies[0][1] is None or self.copies[0][1].query()):
            self._read_copy()

    def read(self) -> None:
        """Wait for the device, and read all losses."""
        self._copy()
        while self.copies:
            self._read_copy()

    def _copy(self) -> None:
        if self.pending:
            losses = torch.stack([loss for loss, _ in self.pending])
            # into pinned memory; only CUDA's copies can be waited for by an event
            copy = losses.to("cpu", non_blocking=losses.is_cuda)
            event = torch.cuda.current_stream(losses.device).record_event() if losses.is_cuda else None
            self.copies.append((copy, event, [place for _, place in self.pending]))
            self.pending.clear()

    def _read_copy(self) -> None:
        values, event, places = self.copies.popleft()
        if event is not None:
            event.synchronize()
        left_out = False
        for value, place in zip(values.tolist(), places, strict=True):
            if place is None:
                self.skipped += int(value)
                left_out = value == 1 and self.skipped <= self.max_skipped
            elif not left_out:
                self._read(value, *place)

    def _read(self, value: float, update: str, lr: float) -> None:
        if math.isfinite(value):
            self.total, self.count, self.last_finite = self.total + value, self.count + 1, value
        elif self.error is None:
            before = "the first loss" if self.last_finite is None else f"{self.last_finite:.4g} before"
            self.error = WorkError(
                f"the loss became {value} in {update} at learning rate {lr:.3g} ({before}); the last checkpoint is "
                "intact; try a lower recipe.optimizer.lr, precision=fp32 or a higher max_skipped_updates"
            )
