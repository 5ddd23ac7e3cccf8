"""The training loop, the same for every network, recipe, data set and device. Every process of a run executes

    for each epoch:
        for each update:
            for each micro batch: fetch, forward in autocast, loss, backward
            step, schedule, EMA
        evaluate the network and its average, every few epochs; record; save a checkpoint

and starts at the update where the checkpoint was written.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from roadmap.data.loaders import Loaders, Timed
from roadmap.errors import StoppedError, WorkError
from roadmap.networks.batch_norm import RunningStatistics
from roadmap.runtime.distributed import SINGLE_PROCESS, Agreement, World
from roadmap.runtime.stopping import StopRequest
from roadmap.training.checkpoint import averaged_weights
from roadmap.training.ema import MovingAverage
from roadmap.training.evaluator import PredictionCollector, Record, evaluate_networks
from roadmap.training.losses import LossMeter
from roadmap.training.optim import lay_out_like_parameters


@dataclass(frozen=True)
class TrainingParts:
    """The network and everything else that an update uses.

    ``forward`` is the network as training calls it: compiled, or wrapped for several processes. Checkpoints hold the
    plain ``network``. In the context of ``no_sync`` the backward pass does not average gradients over processes.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    loss: nn.Module
    scaler: torch.amp.GradScaler  # disabled unless the precision is fp16
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
    statistics: RunningStatistics = field(default_factory=lambda: RunningStatistics(nn.Identity()))
    differentiate: Callable[[Tensor], None] = Tensor.backward  # adds the gradients of a loss to the parameters' own
    ema: MovingAverage | None = None

    def backward(self, images: Tensor, targets: Tensor, accumulation: int) -> Tensor:
        """Add the gradient of a micro batch's mean loss over ``accumulation``; return the loss.

        Forward in autocast, loss in fp32. Like ``step``, work of the device alone: nothing here waits for its results.
        """
        with self.autocast():
            logits = self.forward(images)
        loss = self.loss(logits.float(), targets)
        self.differentiate(self.scaler.scale(loss if accumulation == 1 else loss / accumulation))
        return loss.detach()

    def update(self, images: Tensor, targets: Tensor) -> Tensor:
        """Do an update of one micro batch; return its loss."""
        loss = self.backward(images, targets, 1)
        self.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def step(self, skipped: Tensor | None = None) -> None:
        """Update weights, running statistics and the average of both, unless ``skipped`` is 1 on the device.

        fp16 skips weights whose gradients overflow, and so those of a loss that is not finite.
        """
        if skipped is not None and not self.scaler.is_enabled():
            # by which a scaler makes fused optimizers skip a step
            self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.statistics.update(skipped)
        if self.ema is not None:
            self.ema.update(skipped)


@dataclass(frozen=True)
class TrainerSettings:
    """How long to train, how often to evaluate and save, how many updates with a non-finite loss may be skipped."""

    epochs: int
    eval_every: int = 1  # epochs; the last one is always evaluated
    checkpoint_epochs: int = 1
    checkpoint_seconds: float = math.inf
    max_skipped: int = 0


@dataclass(frozen=True)
class Callbacks:
    """Where the trainer sends what it has; in all processes but the main one only ``predictions`` is used."""

    record: Callable[[Record], None] = lambda row: None  # the row of each finished epoch
    save: Callable[[Record, bool], None] = lambda state, best: None  # a checkpoint's content, valid during the call
    wait: Callable[[], None] = lambda: None  # for the last checkpoint to be written
    pruner: Callable[[], None] = lambda: None  # before each epoch but the first; raises PrunedError to end the run
    on_step: Callable[[int, int, int], None] = lambda epoch, update, updates: None
    predictions: PredictionCollector | None = None  # of the network's last evaluation


@dataclass
class TrainState:
    """How far training is; part of each checkpoint."""

    epoch: int = 0  # finished epochs
    updates: int = 0  # finished updates of the next epoch
    seconds: float = 0.0  # spent on these updates
    waited: float = 0.0  # of these seconds, waiting for data
    lr: float = 0.0  # of the last update
    best_top1: float = -math.inf


@dataclass
class Trainer:
    """Trains a network.

    Torch's random state is not part of a checkpoint: the loader seeds it before each micro batch.
    """

    parts: TrainingParts
    loaders: Loaders
    settings: TrainerSettings
    device: torch.device
    world: World = SINGLE_PROCESS
    stop: StopRequest = field(default_factory=StopRequest)
    callbacks: Callbacks = Callbacks()
    graph: Callable[[tuple[Tensor, ...]], Tensor] | None = None  # an update of the loader's ``inputs``; its loss

    def __post_init__(self) -> None:
        self.state = TrainState()
        self.losses = LossMeter(1 if self.device.type == "cpu" else 50, self.settings.max_skipped)
        self.saved_at = time.monotonic()
        self.loader_error: WorkError | None = None
        self.blank: list[Tensor] = []  # a micro batch of zeros without memory
        self.upcoming: Iterator[tuple[Tensor, ...]] | None = None  # of the next epoch
        self.posted: Agreement | None = None  # after the last update, and not read yet

    def fit(self) -> None:
        """Train the remaining epochs.

        Raises WorkError if the loss is not finite, an image cannot be read or a file cannot be written; StoppedError,
        after saving a checkpoint, if asked to stop; and the pruner's PrunedError.
        """
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[None]:
        """Do what ``fit`` does, and yield after each update, so that several trainers can take turns."""
        while self.state.epoch < self.settings.epochs:
            if self.state.epoch > 0:
                with self.world.collective_errors():
                    self.callbacks.pruner()
            row: Record = {"epoch": self.state.epoch + 1} | (yield from self.train_epoch())
            began = time.perf_counter()
            if row["epoch"] < self.settings.epochs:
                self.upcoming = self.batches(row["epoch"], 0)  # read by workers during the evaluation
            if row["epoch"] % self.settings.eval_every == 0 or row["epoch"] == self.settings.epochs:
                row |= self.evaluate_epoch()
            row["images_per_second"] = self.loaders.train.images / self.state.seconds
            row["data_wait"] = self.state.waited / self.state.seconds
            row["train_seconds"] = self.state.seconds
            row["seconds"] = self.state.seconds + time.perf_counter() - began
            self.finish_epoch(row)

    def train_epoch(self) -> Generator[None, None, Record]:
        """Train the rest of an epoch, and yield after each update.

        Return the epoch's mean loss over all processes and its last learning rate.
        """
        state, train = self.state, self.loaders.train
        self.parts.network.train()
        upcoming, self.upcoming = self.upcoming or self.batches(state.epoch, state.updates), None
        batches = Timed(upcoming, self.device, state.seconds, state.waited)
        for _ in range(state.updates, train.share.updates):
            self.agree(batches)
            self.train_step(batches)
            self.callbacks.on_step(state.epoch, state.updates, train.share.updates)
            with batches.paused():  # the turns of other trainers
                yield
        self.losses.read()
        self.agree(batches, now=True)
        state.seconds, state.waited = batches.seconds, batches.waited
        totals, counts = zip(*self.world.gather((self.losses.total, self.losses.count)), strict=True)
        if not sum(counts):
            raise WorkError(f"every update of epoch {state.epoch + 1} was skipped: no loss of it is finite")
        return {"train_loss": sum(totals) / sum(counts), "lr": state.lr}

    @property
    def batches(self) -> Callable[[int, int], Iterator[tuple[Tensor, ...]]]:
        """The loader's batches, or what a graph makes them from."""
        return self.loaders.train.batches if self.graph is None else self.loaders.train.inputs

    def train_step(self, batches: Timed) -> None:
        """Train one update: accumulate the gradients of its micro batches, then step."""
        parts, state, losses = self.parts, self.state, []
        accumulation = self.loaders.train.share.accumulation
        if self.graph is not None:
            losses, accumulation = [self.graph(next(batches))], 0
        for micro_batch in range(accumulation):
            images, targets = self.fetch(batches)
            with nullcontext() if micro_batch == accumulation - 1 else parts.no_sync():
                losses.append(parts.backward(images, targets, accumulation))
        state.lr = max(map(float, parts.schedule.get_last_lr()))
        skipped = self.has_nonfinite_loss(losses) if self.settings.max_skipped else None
        self.losses.add(losses, f"update {state.updates + 1} of epoch {state.epoch + 1}", state.lr, skipped)
        if self.graph is None:
            parts.step(skipped)
        parts.optimizer.zero_grad(set_to_none=True)
        parts.schedule.step()
        state.updates += 1

    def fetch(self, batches: Timed) -> tuple[Tensor, Tensor]:
        """Return the next micro batch.

        Of several processes, one that cannot read its images goes on with zeros: the others wait for its gradients, and
        learn of the error between updates.
        """
        try:
            if self.loader_error is None:
                images, labels = next(batches)
        except WorkError as error:
            if self.world.size == 1:
                raise
            self.loader_error = error
        if self.world.size > 1 and not self.blank:  # the first micro batch
            self.world.any_rank(error=self.loader_error)
            self.blank = [torch.empty_like(part, device="meta") for part in (images, labels)]
        if self.loader_error is not None:
            images, labels = (torch.zeros_like(part, device=self.device) for part in self.blank)
        return images, labels

    @property
    def error(self) -> WorkError | None:
        """What this process has to tell the others."""
        return self.loader_error or self.losses.error

    def agree(self, batches: Timed, *, now: bool = False) -> None:
        """Raise an error of any process in all; save if a checkpoint is due and stop if asked to, in any.

        Between updates. Unless ``now``, several processes read after an update what they told each other after the one
        before, so that none waits for another.
        """
        answer: Agreement | None = self.world.post(
            self.stop.signal is not None, self.checkpoint_due(), error=self.error
        )
        later = None
        if not now and self.world.size > 1:
            answer, later = self.posted, answer
        self.posted = later
        stop, due = answer() if answer else (False, False)
        if stop or due:
            self.state.seconds, self.state.waited = batches.seconds, batches.waited
            self.save_checkpoint(best=False, wait=stop)
            self.posted = None
        if stop:
            # the signal may have reached another process only
            signal = self.world.first_set(self.stop.signal)
            raise StoppedError(signal, f"update {self.state.updates} of epoch {self.state.epoch + 1}")

    def has_nonfinite_loss(self, losses: list[Tensor]) -> Tensor:
        """Return, on the device, 1 if any loss of an update is not finite, in any process, else 0."""
        nonfinite = torch.stack(losses).isfinite().logical_not().any().float()
        return self.world.sum(nonfinite).clamp(max=1)

    def evaluate_epoch(self) -> Record:
        """Evaluate the network, and its average if there is one."""
        last = self.state.epoch + 1 == self.settings.epochs
        return self.evaluate(self.callbacks.predictions if last else None)

    def evaluate(self, predictions: PredictionCollector | None = None) -> Record:
        """Return top-1 and top-5 in percent and the mean loss over all validation images.

        Those of the average are named ``ema_top1`` and so on; ``predictions`` collects the network's.
        """
        parts = self.parts
        networks, collectors = [parts.network], [predictions]
        if parts.ema is not None:
            networks, collectors = [*networks, parts.ema.network], [predictions, None]
        row, *averages = evaluate_networks(
            networks, self.loaders.val, collectors, parts.autocast, self.device, self.world
        )
        return row | {f"ema_{name}": value for average in averages for name, value in average.items()}

    def finish_epoch(self, row: Record) -> None:
        """Record an epoch; save a checkpoint if one is due or the epoch is the best so far."""
        state, settings = self.state, self.settings
        best = row.get("top1", -math.inf) > state.best_top1
        state.best_top1 = max(state.best_top1, row.get("top1", -math.inf))
        state.epoch, state.updates, state.seconds, state.waited = state.epoch + 1, 0, 0.0, 0.0
        self.losses.start(0.0, 0)
        with self.world.collective_errors():
            self.callbacks.record(row)
        (due,) = self.world.any_rank(self.checkpoint_due())
        if best or due or state.epoch % settings.checkpoint_epochs == 0 or state.epoch == settings.epochs:
            self.save_checkpoint(best, wait=state.epoch == settings.epochs)

    def checkpoint_due(self) -> bool:
        """Return whether the last checkpoint is older than ``checkpoint_seconds``."""
        return time.monotonic() - self.saved_at > self.settings.checkpoint_seconds

    def save_checkpoint(self, best: bool, wait: bool) -> None:
        """Save a checkpoint. Raises WorkError instead after an error since the last one, such as a loss of NaN."""
        self.losses.read()
        self.world.any_rank(error=self.error)
        state = self.state_dict()
        with self.world.collective_errors():
            self.callbacks.save(state, best)
            if wait:
                self.callbacks.wait()
        self.saved_at = time.monotonic()

    def state_dict(self) -> Record:
        """Return a checkpoint's content."""
        parts, corrupt = self.parts, self.loaders.corrupt
        for found in self.world.gather(corrupt.found):
            corrupt.add(found)
        return vars(self.state) | {
            "losses": self.world.gather((self.losses.total, self.losses.count)),
            "skipped": self.losses.skipped,
            "corrupt": dict(corrupt.found),
            "network": parts.network.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "schedule": parts.schedule.state_dict(),
            "scaler": parts.scaler.state_dict(),
            "ema": None if parts.ema is None else parts.ema.network.state_dict(),
        }

    def load_state_dict(self, state: Record) -> None:
        """Resume from a checkpoint, which may have been written by another number of processes."""
        parts = self.parts
        self.state = TrainState(**{name: state[name] for name in vars(self.state)})
        self.loaders.corrupt.add(state["corrupt"])
        losses = state["losses"]
        if len(losses) != self.world.size:
            total = tuple(map(sum, zip(*losses, strict=True)))
            losses = [total, *[(0.0, 0)] * (self.world.size - 1)]
        self.losses.start(*losses[self.world.rank])
        self.losses.skipped = state["skipped"]
        parts.network.load_state_dict(state["network"])
        parts.optimizer.load_state_dict(state["optimizer"])
        lay_out_like_parameters(parts.optimizer)
        parts.schedule.load_state_dict(state["schedule"])
        parts.scaler.load_state_dict(state["scaler"])
        if parts.ema is not None:
            parts.ema.network.load_state_dict(averaged_weights(state) or {})
