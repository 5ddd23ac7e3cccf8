"""The trainer, built small, against a training loop written by hand."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.augment import RandomErasing
from roadmap.data.image_dataset import UnreadableImages
from roadmap.data.loaders import DistributedBatchSampler, Loaders, Normalise, Timed, TrainLoader, ValLoader
from roadmap.data.memory import Images, InMemoryBatches
from roadmap.errors import PrunedError
from roadmap.networks.batch_norm import RunningStatistics
from roadmap.training.build import build_trainer
from roadmap.training.checkpoint import copied_to_host
from roadmap.training.ema import MovingAverage
from roadmap.training.graph import CudaRecording
from roadmap.training.losses import LossMeter
from roadmap.training.optim import gradient_adder
from roadmap.training.trainer import Callbacks, Trainer, TrainerSettings, TrainingParts

CPU = torch.device("cpu")
IMAGES, BATCH, CLASSES, EPOCHS = 10, 4, 3, 2


def small_loaders() -> Loaders:
    """Ten random images of 4 pixels: two updates of four images in an epoch."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, 3, 4, 4), dtype=torch.uint8, generator=generator)
    source = InMemoryBatches(Images(pixels, torch.arange(IMAGES) % CLASSES))
    normalise = Normalise((0.5,) * 3, (0.5,) * 3, CPU, channels_last=False)
    share = DistributedBatchSampler(IMAGES, BATCH, micro_batch_size=2, seed=0, rank=0, processes=1)
    train = TrainLoader(source, share, None, normalise, RandomErasing(0.0, 4, CPU))
    val = ValLoader(source, [torch.arange(IMAGES)], normalise)
    return Loaders(train, val, CLASSES, IMAGES, IMAGES, UnreadableImages(0))


def small_parts() -> TrainingParts:
    """A linear classifier with SGD, whose learning rate is halved after each update."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainingParts(network, network, optimizer, schedule, nn.CrossEntropyLoss(), scaler)


def small_trainer(**callbacks: Any) -> Trainer:
    return Trainer(small_parts(), small_loaders(), TrainerSettings(EPOCHS), CPU, callbacks=Callbacks(**callbacks))


def test_updates_equal_gradient_descent_by_hand() -> None:
    trainer = small_trainer()
    network = trainer.parts.network
    assert isinstance(network, nn.Sequential)
    linear = copy.deepcopy(network[1])
    source, share = trainer.loaders.train.source, trainer.loaders.train.share
    lr = 0.5
    for epoch in range(EPOCHS):
        for update in share.order(epoch).split(BATCH):
            ((images, labels),) = source.batches(epoch, [update])
            inputs = ((images.float() / 255 - 0.5) / 0.5).flatten(1)
            with torch.no_grad():
                # the gradient of cross-entropy is (softmax - one-hot) x inputs
                error = (linear(inputs).softmax(1) - nn.functional.one_hot(labels, CLASSES)) / BATCH
                linear.weight -= lr * error.T @ inputs
                linear.bias -= lr * error.sum(0)
            lr /= 2
    trainer.fit()
    torch.testing.assert_close(network[1].weight, linear.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network[1].bias, linear.bias, rtol=1e-4, atol=1e-6)
    assert trainer.state.lr == pytest.approx(0.5**4)


def test_resume_from_any_checkpoint_equals_an_uninterrupted_run() -> None:
    """A checkpoint of the first epoch, and one of each update."""
    states: list[dict] = []
    rows: list[dict] = []
    trainer: Trainer = small_trainer(
        record=rows.append,
        save=lambda state, best: states.append(copy.deepcopy(state)),
        on_step=lambda epoch, update, updates: states.append(copy.deepcopy(trainer.state_dict())),
    )
    trainer.fit()
    whole = weights(trainer)
    assert {(state["epoch"], state["updates"]) for state in states} == {(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)}
    for state in states:
        resumed_rows: list[dict] = []
        resumed = small_trainer(record=resumed_rows.append)
        resumed.load_state_dict(copy.deepcopy(state))
        resumed.fit()
        assert torch.equal(weights(resumed), whole)
        losses = [row["train_loss"] for row in resumed_rows]
        assert losses == [row["train_loss"] for row in rows[state["epoch"] :]]


def test_pruner_is_called_between_epochs_and_ends_the_run() -> None:
    rows: list[dict] = []

    def prune() -> None:
        raise PrunedError(f"after {len(rows)} epochs")

    with pytest.raises(PrunedError, match="after 1 epochs"):
        small_trainer(record=rows.append, pruner=prune).fit()


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.parts.network.parameters()])


class NoWaiting(TorchDispatchMode):
    """Fails on what makes a GPU's host wait: reading a value, shapes that depend on values, copies between devices."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "item", "is_nonzero")

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"{operator} waits for the device"
        indices = arguments[1] if name in ("index", "index_put", "index_put_", "_unsafe_index") else ()
        booleans = [index for index in indices if index is not None and index.dtype in (torch.bool, torch.uint8)]
        assert not booleans, f"{operator} with booleans waits for the device"
        result = operator(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves((arguments, result)) if isinstance(leaf, Tensor)]
        assert len({tensor.device for tensor in tensors}) < 2, f"{operator} between devices"
        return result


def enhanced_trainer(*overrides: str) -> Trainer:
    request = ["step=fewer_norms", "batch_size=32", "recipe.ema_decay=0.9", "recipe.network.stochastic_depth=0.2"]
    experiment = compose([*request, *overrides]).experiment()
    return build_trainer(experiment, open_loaders(experiment, CPU), CPU)


@pytest.mark.parametrize(
    "overrides",
    [
        ("recipe=enhanced",),
        ("recipe=original",),
        ("precision=bf16",),
        ("recipe.batch_norm_images=8", "micro_batch_size=16"),
        ("max_skipped_updates=2",),
        ("max_skipped_updates=2", "recipe=original", "step=resnet50"),
    ],
)
def test_update_never_waits_for_the_device(overrides: tuple[str, ...]) -> None:
    """With losses read as on a GPU. The loader is asked for its batches before."""
    trainer = enhanced_trainer(*overrides)
    trainer.losses.every = 50
    trainer.parts.network.train()
    count = 3 * trainer.loaders.train.share.accumulation
    batches = Timed(iter([*itertools.islice(trainer.loaders.train.batches(0), count)]), CPU)
    with NoWaiting():
        for _ in range(3):
            trainer.agree(batches)
            trainer.train_step(batches)
        with pytest.raises(AssertionError, match="waits for the device"):
            trainer.losses.pending[-1][0].item()
    trainer.losses.read()
    assert trainer.losses.count == count


def test_update_copies_nothing_between_devices() -> None:
    """On the device ``meta``, of whose values the host has none; the fused optimizer has no kernel there."""
    trainer = enhanced_trainer()
    network = trainer.parts.network.to("meta").train()
    statistics, ema = RunningStatistics(network), MovingAverage(network, 0.9)
    parts = replace(trainer.parts, differentiate=gradient_adder(network), statistics=statistics, ema=ema)
    images, targets = torch.zeros(32, 3, 32, 32, device="meta"), torch.zeros(32, 10, device="meta")
    with NoWaiting():
        parts.backward(images, targets, 1)
        statistics.update()
        ema.update()
        with pytest.raises(AssertionError, match="between devices"):
            images.copy_(torch.zeros(()))
    assert all(parameter.grad is not None for parameter in network.parameters())


class Eventful(InMemoryBatches):
    """Notes in ``events`` which epoch's batches are asked for."""

    def __init__(self, images: Images, events: list[str]):
        super().__init__(images)
        self.events = events

    def batches(self, epoch: int, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self.events.append(f"epoch {epoch + 1}")
        return super().batches(epoch, indices)


def test_next_epochs_batches_are_asked_for_before_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an epoch that is not evaluated too, once each; none after the last."""
    events: list[str] = []
    loaders = small_loaders()
    assert isinstance(loaders.train.source, InMemoryBatches)
    train = replace(loaders.train, source=Eventful(loaders.train.source.images, events))
    settings = TrainerSettings(epochs=3, eval_every=2)
    trainer = Trainer(small_parts(), replace(loaders, train=train), settings, CPU)
    evaluate = Trainer.evaluate
    monkeypatch.setattr(Trainer, "evaluate", lambda *words: (events.append("evaluation"), evaluate(*words))[1])
    trainer.fit()
    assert events == ["epoch 1", "epoch 2", "epoch 3", "evaluation", "evaluation"]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_equal_those_of_backward(accumulation: int) -> None:
    """To the bit and in the strides of the parameters, of one that is used twice, two with one gradient, one unused."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
            self.twice, self.first, self.second, self.unused = (nn.Parameter(torch.ones(4)) for _ in range(4))

        def forward(self, images: Tensor) -> Tensor:
            means = self.conv(images).mean((2, 3))
            return means * self.twice * self.twice + (self.first + self.second)

    torch.manual_seed(0)
    networks = [Net()]
    networks.append(copy.deepcopy(networks[0]))
    add = gradient_adder(networks[1])
    for _ in range(accumulation):
        images = torch.randn(1, 3, 5, 5)
        networks[0](images).square().sum().backward()
        add(networks[1](images).square().sum())
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            assert torch.equal(one.grad, other.grad)
            assert other.grad.stride() == other.stride()


def test_events_are_recorded_on_the_stream_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on that of ``cuda:0``, by which all tensors of a process on ``cuda:1`` would look complete."""
    asked: list[torch.device | None] = []
    second = torch.device("cuda", 1)
    stream = Mock(device=second)
    stream.record_event().query.return_value = False

    def current_stream(device: torch.device | None = None) -> Mock:
        asked.append(device)
        return stream

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    with FakeTensorMode():
        LossMeter(every=1).add([torch.empty((), device=second)], "update 1", 0.1)
        copied_to_host({"weight": torch.empty(3, device=second)})
    next(Timed(iter([()]), second))
    CudaRecording(second).run(lambda: torch.zeros(()))
    assert asked == [second] * 4
