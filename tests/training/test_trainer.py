"""The trainer, built small, against a training loop written by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from roadmap.data.augment import RandomErasing
from roadmap.data.image_dataset import UnreadableImages
from roadmap.data.loaders import DistributedBatchSampler, Loaders, Normalise, TrainLoader, ValLoader, identity
from roadmap.data.memory import Images, InMemoryBatches
from roadmap.errors import PrunedError
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
    val = ValLoader(source, [torch.arange(IMAGES)], identity, normalise)
    return Loaders(train, val, CLASSES, IMAGES, IMAGES, UnreadableImages(0))


def small_parts() -> TrainingParts:
    """A linear classifier with SGD, whose learning rate is halved after each update."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
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
