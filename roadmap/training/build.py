"""Builds the trainer that an experiment describes."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from roadmap.data import Loaders
from roadmap.data.augment import mixer
from roadmap.errors import RequestError
from roadmap.networks.models import make_model
from roadmap.runtime.device import autocast
from roadmap.runtime.distributed import SINGLE_PROCESS, World
from roadmap.schema.experiment import Experiment
from roadmap.seeds import derived_seed
from roadmap.training.optim import build_optimizer, build_schedule
from roadmap.training.pretrained import load_pretrained
from roadmap.training.trainer import Trainer, TrainerSettings, TrainingParts

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...] | list[Tensor]
Forward = tuple[Callable[[Tensor], Tensor], Callable[[], AbstractContextManager[None]]]


def build_trainer(experiment: Experiment, loaders: Loaders, device: torch.device) -> Trainer:
    """Return the trainer of an experiment, for this process alone and without callbacks."""
    return Trainer(build_parts(experiment, loaders, device), loaders, trainer_settings(experiment), device)


def trainer_settings(experiment: Experiment) -> TrainerSettings:
    """Return how long an experiment trains and how often it saves checkpoints."""
    settings = experiment.settings
    return TrainerSettings(
        experiment.epochs, settings.checkpoint_epochs, settings.checkpoint_minutes * 60, settings.max_skipped_updates
    )


def build_parts(
    experiment: Experiment, loaders: Loaders, device: torch.device, world: World = SINGLE_PROCESS
) -> TrainingParts:
    """Return the network, optimizer, schedule, loss and EMA of an experiment.

    Raises RequestError if its settings do not fit each other, the device or its pretrained weights.
    """
    recipe, settings = experiment.recipe, experiment.settings
    network = seeded_network(experiment, loaders.num_classes, device)
    if experiment.pretrained is not None:
        for message in load_pretrained(network, experiment.pretrained):
            if world.is_main:
                logger.info(message)
    if settings.sync_batchnorm and world.size > 1:
        if device.type != "cuda":
            raise RequestError("sync_batchnorm=true needs GPUs; choose sync_batchnorm=false")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    optimizer = build_optimizer(network, recipe.optimizer)
    ema = None
    if recipe.ema_decay is not None:
        ema = AveragedModel(network, multi_avg_fn=moving_average(recipe.ema_decay), use_buffers=True)
    forward, no_sync = _distributed(network, device, world)
    updates = loaders.train.share.updates * experiment.epochs
    return TrainingParts(
        network=network,
        forward=torch.compile(forward) if settings.compile else forward,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, updates),
        loss=nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        mix=mixer(recipe.augment, loaders.num_classes),
        autocast=autocast(device, experiment.precision),
        no_sync=no_sync,
        ema=ema,
    )


def seeded_network(experiment: Experiment, num_classes: int, device: torch.device) -> nn.Module:
    """Return the experiment's network on the device, with the initial weights of its seed."""
    torch.manual_seed(derived_seed(experiment.seed, "weights"))
    network = make_model(experiment.design, experiment.recipe.network, num_classes, experiment.image_size)
    memory_format = torch.channels_last if experiment.settings.channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return the update rule of AveragedModel: an exponential moving average of weights and running statistics.

    BN's batch counters are copied: an average of integers, rounded down after each update, would stand still.
    """
    average_floats = get_ema_multi_avg_fn(decay)

    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            average_floats(averaged, current, count)
        else:
            torch._foreach_copy_(averaged, current)

    return update


def _distributed(network: nn.Module, device: torch.device, world: World) -> Forward:
    """Return the network wrapped for several processes, and the context in which gradients are not averaged."""
    if world.size == 1:
        return network, nullcontext
    wrapped = DistributedDataParallel(
        network, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )
    return wrapped, wrapped.no_sync
