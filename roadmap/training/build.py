"""A trainer from an experiment's record: every part built from its numbers."""

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
from roadmap.runtime.distributed import World
from roadmap.runtime.stopping import StopRequest
from roadmap.schema.experiment import Experiment
from roadmap.seeds import derived_seed
from roadmap.training.optim import build_optimizer, build_schedule
from roadmap.training.pretrained import load_pretrained
from roadmap.training.trainer import Trainer

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...] | list[Tensor]
Forward = tuple[Callable[[Tensor], Tensor], Callable[[], AbstractContextManager[None]]]


def seeded_network(experiment: Experiment, num_classes: int, device: torch.device) -> nn.Module:
    """The experiment's network with the initial weights of its seed, on the device."""
    torch.manual_seed(derived_seed(experiment.seed, "weights"))
    network = make_model(experiment.design, experiment.recipe.network, num_classes, experiment.image_size)
    memory_format = torch.channels_last if experiment.settings.channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]


def build_trainer(
    experiment: Experiment, loaders: Loaders, device: torch.device, world: World, stop: StopRequest
) -> Trainer:
    """The trainer of an experiment, with nothing to record to yet."""
    recipe, settings = experiment.recipe, experiment.settings
    network: nn.Module = _started(experiment, loaders.num_classes, device, world)
    if settings.sync_batchnorm and world.size > 1:
        network = _synchronised(network, device)
    optimizer = build_optimizer(network, recipe.optimizer)
    ema = None
    if recipe.ema_decay is not None:
        ema = AveragedModel(network, multi_avg_fn=moving_average(recipe.ema_decay), use_buffers=True)
    forward, unsynced = _called(network, device, world, compiled=settings.compile)
    updates = loaders.train.share.updates * experiment.epochs
    return Trainer(
        network=network,
        forward=forward,
        unsynced=unsynced,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, updates),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        autocast=autocast(device, experiment.precision),
        mix=mixer(recipe.augment, loaders.num_classes),
        loss=nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        train=loaders.train,
        val=loaders.val,
        corrupt=loaders.corrupt,
        epochs=experiment.epochs,
        device=device,
        world=world,
        stop=stop,
        checkpoint_epochs=settings.checkpoint_epochs,
        checkpoint_seconds=settings.checkpoint_minutes * 60,
        max_skipped=settings.max_skipped_updates,
        ema=ema,
    )


def _started(experiment: Experiment, num_classes: int, device: torch.device, world: World) -> nn.Module:
    """The network as training starts it: with its seed's weights, or with those trained before."""
    network = seeded_network(experiment, num_classes, device)
    if experiment.pretrained is not None:
        for sentence in load_pretrained(network, experiment.pretrained):
            if world.first:
                logger.info(sentence)
    return network


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """How AveragedModel takes in a network after each update: ``decay`` of the average, the rest of the network.

    BN's running mean and variance are averaged like the weights they belong to, at the same decay; they are not
    measured anew for the averaged weights. BN's counters are copied: an average of whole numbers, rounded down after
    each update, would stand still.
    """
    floats = get_ema_multi_avg_fn(decay)

    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            floats(averaged, current, count)
        else:
            torch._foreach_copy_(averaged, current)

    return update


def _synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise RequestError("sync_batchnorm=true wants GPUs: torch has none for the CPU; choose sync_batchnorm=false")
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def _called(network: nn.Module, device: torch.device, world: World, compiled: bool) -> Forward:
    """The network as training calls it, and the context in which gradients stay in their process."""
    forward: nn.Module = network
    unsynced: Callable[[], AbstractContextManager[None]] = nullcontext
    if world.size > 1:
        forward = DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )
        unsynced = forward.no_sync
    return torch.compile(forward) if compiled else forward, unsynced
