"""The loop: one trainer for every network, recipe and data set, on CPU and GPU, given built objects and numbers.

In every process of a run, resume, then:

    for each epoch, for each update from where the checkpoint stopped
        for each micro batch: fetch (agree on errors and stops), mix, forward in autocast, loss, backward
        step, schedule, EMA
    evaluate the network, and its average; record; save
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from roadmap.data.loaders import Timed, TrainLoader, ValLoader
from roadmap.data.unreadable_images import UnreadableImages
from roadmap.errors import StoppedError, WorkError
from roadmap.runtime.distributed import World
from roadmap.runtime.stopping import StopRequest
from roadmap.training.evaluator import EvalObserver, Evaluator, Record
from roadmap.training.losses import Losses


@dataclass
class Trainer:
    """Trains ``network`` for ``epochs``; ``record`` takes each epoch's row, ``save`` a checkpoint's state, ``judge``
    the row of each epoch but the last.

    ``forward`` is the network as it is called in training, compiled and wrapped perhaps, and ``unsynced`` the context
    in which its backward pass leaves the gradients of other processes out; checkpoints hold the plain network. Random
    numbers are the loader's business: it seeds torch's anew for each micro batch, so a checkpoint needs none.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    unsynced: Callable[[], AbstractContextManager[None]]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler  # does nothing unless the precision is fp16
    autocast: Callable[[], AbstractContextManager[None]]
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: nn.Module
    train: TrainLoader
    val: ValLoader
    corrupt: UnreadableImages
    epochs: int
    device: torch.device
    world: World
    stop: StopRequest
    checkpoint_epochs: int
    checkpoint_seconds: float
    max_skipped: int  # updates left out for a loss that is not finite
    ema: AveragedModel | None = None
    record: Callable[[Record], None] = lambda row: None
    save: Callable[[Record, bool], None] = lambda state, best: None
    judge: Callable[[Record], None] = lambda row: None  # raises PrunedError where a run is not worth its other epochs
    tell: Callable[[int, int, int], None] = lambda epoch, update, updates: None
    notes: EvalObserver | None = None  # of the last evaluation of the network
    epochs_done: int = 0
    updates_done: int = 0  # in the epoch after those
    seconds: float = 0.0  # of training in it
    waited: float = 0.0  # of them, for data
    lr: float = 0.0  # of the last update
    skipped: int = 0
    best_top1: float = -math.inf
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.losses = Losses(every=1 if self.device.type == "cpu" else 50)

    def fit(self) -> None:
        """Train what is left of ``epochs``.

        Raises WorkError where the loss is no longer a number, an image cannot be read or a file not be written, and
        StoppedError, with a checkpoint written, when asked to stop; whatever ``judge`` raises.
        """
        while self.epochs_done < self.epochs:
            row: Record = {"epoch": self.epochs_done + 1} | self.train_epoch()
            began = time.perf_counter()
            last = self.epochs_done + 1 == self.epochs
            row |= self.evaluate(self.network, self.notes if last else None)
            if self.ema is not None:
                row |= {f"ema_{name}": value for name, value in self.evaluate(self.ema).items()}
            row["images_per_second"] = self.train.images / self.seconds
            row["data_wait"] = self.waited / self.seconds
            row["train_seconds"] = self.seconds
            row["seconds"] = self.seconds + time.perf_counter() - began
            self.finish_epoch(row)

    def train_epoch(self) -> Record:
        """What is left of one pass over the training images: its mean loss, and the last update's learning rate."""
        self.network.train()
        share = self.train.share
        batches = self.train.batches(self.epochs_done, self.updates_done)
        timed = Timed(batches, self.device, self.seconds, self.waited)
        for update in range(self.updates_done, share.updates):
            losses = []
            for part in range(share.accumulation):
                images, labels = self.fetch(timed, between_updates=part == 0)
                losses.append(self.backward(images, labels, last=part + 1 == share.accumulation))
            self.update(losses)
            self.updates_done = update + 1
            self.tell(self.epochs_done, self.updates_done, share.updates)
        self.losses.read()
        self.consult(self.losses.error, timed, between_updates=True)
        self.seconds, self.waited = timed.seconds, timed.waited
        sums = self.world.gather((self.losses.total, self.losses.count))
        count = sum(count for _, count in sums)
        if not count:
            raise WorkError(f"every update of epoch {self.epochs_done + 1} was skipped: no loss of it is finite")
        return {"train_loss": sum(total for total, _ in sums) / count, "lr": self.lr}

    def fetch(self, timed: Timed, between_updates: bool) -> tuple[Tensor, Tensor]:
        """The next micro batch, once every process has its own."""
        batch, error = None, self.losses.error
        if error is None:
            try:
                batch = next(timed)
            except WorkError as met:
                error = met
        self.consult(error, timed, between_updates)
        assert batch is not None
        return batch

    def consult(self, error: WorkError | None, timed: Timed, between_updates: bool) -> None:
        """Ask all processes for errors and signals; between two updates save if it is time, stop if it is asked."""
        stop, due = self.world.agree(error, self.stop.signal is not None, self.due())
        if between_updates and (stop or due):
            self.seconds, self.waited = timed.seconds, timed.waited
            self.checkpoint(best=False)
        if between_updates and stop:
            # the signal may not have come to this process yet
            by = self.world.any_of(self.stop.signal)
            raise StoppedError(by, f"update {self.updates_done} of epoch {self.epochs_done + 1}")

    def backward(self, images: Tensor, labels: Tensor, last: bool) -> Tensor:
        """Add a micro batch's share to the gradients; with the update's last one the processes average theirs."""
        images, targets = self.mix(images, labels)
        with nullcontext() if last else self.unsynced():
            with self.autocast():
                loss = self.loss(self.forward(images), targets)
            self.scaler.scale(loss / self.train.share.accumulation).backward()
        return loss.detach()

    def update(self, losses: list[Tensor]) -> None:
        """One step of the optimizer and all that follows it; without the step where its loss may be skipped."""
        self.lr = max(map(float, self.schedule.get_last_lr()))
        if self.skipped < self.max_skipped and self.spoilt(losses):
            self.skipped += 1
        else:
            self.losses.add(losses, f"update {self.updates_done + 1} of epoch {self.epochs_done + 1}", self.lr)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema is not None:
                self.ema.update_parameters(self.network)
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()

    def spoilt(self, losses: list[Tensor]) -> bool:
        """Whether a loss of the update is not finite, in any process."""
        (spoilt,) = self.world.agree(None, not bool(torch.stack(losses).isfinite().all()))
        return spoilt

    def evaluate(self, network: nn.Module, notes: EvalObserver | None = None) -> Record:
        """Top-1 and top-5 in percent and the mean loss over every validation image, each counted once."""
        return Evaluator(self.autocast, self.device, self.world).run([network], self.val, [notes])[0]

    def finish_epoch(self, row: Record) -> None:
        """Record an epoch, and save where a checkpoint is due or this epoch is the best."""
        best = row["top1"] > self.best_top1
        self.best_top1 = max(self.best_top1, row["top1"])
        self.epochs_done += 1
        self.updates_done, self.seconds, self.waited = 0, 0.0, 0.0
        self.losses.start(0.0, 0)
        with self.world.together():
            self.record(row)
        (due,) = self.world.agree(None, self.due())
        if best or due or self.epochs_done % self.checkpoint_epochs == 0 or self.epochs_done == self.epochs:
            self.checkpoint(best)
        if self.epochs_done < self.epochs:
            with self.world.together():
                self.judge(row)

    def due(self) -> bool:
        """Whether the last checkpoint is long ago."""
        return time.monotonic() - self.saved_at > self.checkpoint_seconds

    def checkpoint(self, best: bool) -> None:
        """Save the state, if it is sound."""
        self.losses.read()
        self.world.agree(self.losses.error)
        state = self.state()
        with self.world.together():
            self.save(state, best)
        self.saved_at = time.monotonic()

    def state(self) -> Record:
        """What a checkpoint holds."""
        for found in self.world.gather(self.corrupt.found):
            self.corrupt.merge(found)
        return {
            "epoch": self.epochs_done,
            "updates": self.updates_done,
            "losses": self.world.gather((self.losses.total, self.losses.count)),
            "seconds": self.seconds,
            "waited": self.waited,
            "lr": self.lr,
            "skipped": self.skipped,
            "corrupt": dict(self.corrupt.found),
            "best_top1": self.best_top1,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state(self, state: Record) -> None:
        """Go on from a checkpoint, in as many processes as wrote it or in others."""
        self.epochs_done, self.updates_done, self.best_top1 = state["epoch"], state["updates"], state["best_top1"]
        self.seconds, self.waited, self.lr = state["seconds"], state["waited"], state["lr"]
        self.skipped = state["skipped"]
        self.corrupt.merge(state["corrupt"])
        losses = state["losses"]
        if len(losses) != self.world.size:
            whole = tuple(map(sum, zip(*losses, strict=True)))
            losses = [whole, *[(0.0, 0)] * (self.world.size - 1)]
        self.losses.start(*losses[self.world.rank])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
