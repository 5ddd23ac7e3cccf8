"""The loop: one trainer for every network, recipe and data set, on CPU and GPU, given built objects and numbers."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from roadmap.data.loaders import Loader
from roadmap.errors import WorkError
from roadmap.seeds import derived_seed

Record = dict[str, Any]


@dataclass
class Trainer:
    """Trains ``network`` for ``epochs``, one call of ``record`` and ``save`` after each.

    Random numbers are seeded anew for each epoch from ``seed``: a run that goes on from a checkpoint draws the ones an
    uninterrupted run would. ``forward`` is the network as it is called in training, compiled perhaps; checkpoints hold
    the plain one under its plain names.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler  # does nothing unless the precision is fp16
    autocast: Callable[[], AbstractContextManager[None]]
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: nn.Module
    train: Loader
    val: Loader
    epochs: int
    accumulation: int  # micro batches in an update
    seed: int
    record: Callable[[Record], None]
    save: Callable[[Record, bool], None]
    ema: AveragedModel | None = None
    epochs_done: int = 0
    best_top1: float = field(default=-math.inf)

    def fit(self) -> None:
        """Train what is left of ``epochs``. Raises WorkError where the loss is no longer a number."""
        for epoch in range(self.epochs_done, self.epochs):
            started = time.perf_counter()
            row: Record = {"epoch": epoch + 1} | self.train_epoch(epoch)
            trained = time.perf_counter()
            row |= self.evaluate(self.network)
            if self.ema is not None:
                row |= {f"ema_{name}": value for name, value in self.evaluate(self.ema).items()}
            row["images_per_second"] = self.train.images / (trained - started)
            row["train_seconds"] = trained - started
            row["seconds"] = time.perf_counter() - started
            self.epochs_done = epoch + 1
            best = row["top1"] > self.best_top1
            self.best_top1 = max(self.best_top1, row["top1"])
            self.record(row)
            self.save(self.state(), best)

    def train_epoch(self, epoch: int) -> Record:
        """One pass over the training images: mean loss per image, and the learning rate of the last update."""
        torch.manual_seed(derived_seed(self.seed, "epoch", epoch))
        self.network.train()
        total = torch.zeros((), device=next(self.network.parameters()).device)
        micro_batches, lr = 0, 0.0
        for images, labels in self.train.batches(epoch):
            images, targets = self.mix(images, labels)
            with self.autocast():
                loss = self.loss(self.forward(images), targets)
            self.scaler.scale(loss / self.accumulation).backward()
            total += loss.detach()
            micro_batches += 1
            if micro_batches % self.accumulation == 0:
                lr = float(self.schedule.get_last_lr()[0])
                self.update()
            # a look at the loss makes a GPU wait, so it is taken now and then
            if total.device.type == "cpu" or micro_batches % 50 == 0:
                self.check(total, epoch, lr)
        self.check(total, epoch, lr)
        return {"train_loss": total.item() / micro_batches, "lr": lr}

    def update(self) -> None:
        """One step of the optimizer and all that follows it."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def check(self, total: Tensor, epoch: int, lr: float) -> None:
        """Raise WorkError if the sum of the epoch's losses is not finite."""
        if not torch.isfinite(total):
            raise WorkError(
                f"the loss became {total.item()} in epoch {epoch + 1} at learning rate {lr:.3g}; "
                "the last checkpoint is from before; try a lower recipe.optimizer.lr or precision=fp32"
            )

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> Record:
        """Top-1 and top-5 in percent and the mean loss over every validation image, each counted once.

        With fewer than five classes top-5 is 100.
        """
        network.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        seen = 0
        for images, labels in self.val.batches():
            with self.autocast():
                logits = network(images)
            logits = logits.float()
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([ranked[:, 0].sum(), ranked.sum(), loss]).cpu().double()
            seen += len(labels)
        top1, top5, loss = (sums / seen).tolist()
        return {"top1": 100 * top1, "top5": 100 * top5, "val_loss": loss}

    def state(self) -> Record:
        """What a checkpoint holds."""
        return {
            "epoch": self.epochs_done,
            "best_top1": self.best_top1,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state(self, state: Record) -> None:
        """Go on from a checkpoint."""
        self.epochs_done, self.best_top1 = state["epoch"], state["best_top1"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
