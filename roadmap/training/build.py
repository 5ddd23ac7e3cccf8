"""Builds the trainer that an experiment describes."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from roadmap.data import Loaders
from roadmap.errors import RequestError
from roadmap.networks.batch_norm import RunningStatistics, has_batch_norm, with_ghost_batches
from roadmap.networks.models import make_model
from roadmap.networks.network import carry_out
from roadmap.networks.weights import load_weights
from roadmap.runtime.device import autocast, compiled, compiles, measure_algorithms
from roadmap.runtime.distributed import SINGLE_PROCESS, World, data_parallel
from roadmap.schema.experiment import Experiment, weights_file
from roadmap.seeds import derived_seed
from roadmap.training.checkpoint import read_weights_file, weights_of
from roadmap.training.cross_entropy import CrossEntropyLoss
from roadmap.training.ema import MovingAverage
from roadmap.training.graph import CudaRecording, GraphedUpdate, uses_graph
from roadmap.training.optim import build_optimizer, build_schedule, gradient_adder
from roadmap.training.trainer import Trainer, TrainerSettings, TrainingParts

logger = logging.getLogger(__name__)


def build_trainer(
    experiment: Experiment, loaders: Loaders, device: torch.device, world: World = SINGLE_PROCESS, *, alone: bool = True
) -> Trainer:
    """Return the trainer of an experiment, without callbacks; ``alone``: no other is used until this one has ended.

    Raises RequestError if its settings do not fit each other, the device or its pretrained weights.
    """
    settings, share = experiment.settings, loaders.train.share
    network = initial_network(experiment, loaders.num_classes, device, world)
    network = normalised_by_groups(network, experiment, share.micro_batch_size, world)
    measure_algorithms(device)
    graphed = uses_graph(experiment, loaders, device)
    parts = build_parts(
        experiment, network, share.updates * experiment.epochs, device, world, compile_=not graphed, alone=alone
    )
    graph = None
    if graphed:
        graph = GraphedUpdate(parts, loaders.train, CudaRecording(device), required=settings.cuda_graph is True)
    trainer_settings = TrainerSettings(
        epochs=experiment.epochs,
        eval_every=settings.eval_every,
        checkpoint_epochs=settings.checkpoint_epochs,
        checkpoint_seconds=settings.checkpoint_minutes * 60,
        max_skipped=settings.max_skipped_updates,
    )
    return Trainer(parts, loaders, trainer_settings, device, world, graph=graph)


def normalised_by_groups(network: nn.Module, experiment: Experiment, micro_batch_size: int, world: World) -> nn.Module:
    """Return the network with BN over groups of ``batch_norm_images``.

    Raises RequestError if the BN of a baseline model cannot have whole groups.
    """
    images = experiment.batch_norm_images
    if not has_batch_norm(network):
        return network
    if micro_batch_size % images:
        experiment.refuse_groups(world.size)
    return with_ghost_batches(network, micro_batch_size // images)


def build_parts(
    experiment: Experiment,
    network: nn.Module,
    updates: int,
    device: torch.device,
    world: World,
    *,
    compile_: bool,
    alone: bool,
) -> TrainingParts:
    """Return what ``updates`` updates use. ``compile_``: compile the network if the settings ask for it."""
    recipe, forward = experiment.recipe, network
    optimizer = build_optimizer(network, recipe.optimizer)
    ema = None if recipe.ema_decay is None else MovingAverage(network, recipe.ema_decay)
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
    if world.size > 1:
        forward = distributed = data_parallel(network, device)
        no_sync = distributed.no_sync
    if compile_ and compiles(experiment.settings.compile, device, experiment.image_size):
        forward = compiled(forward, alone=alone)
    return TrainingParts(
        network=network,
        forward=forward,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, updates),
        loss=CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        autocast=autocast(device, experiment.precision),
        no_sync=no_sync,
        statistics=RunningStatistics(network, world.sum),
        # DistributedDataParallel averages the gradients as backward() accumulates them
        differentiate=Tensor.backward if world.size > 1 else gradient_adder(network),
        ema=ema,
    )


def initial_network(
    experiment: Experiment, num_classes: int, device: torch.device, world: World = SINGLE_PROCESS
) -> nn.Module:
    """Return the experiment's network on the device, with the initial weights of its seed or pretrained ones."""
    torch.manual_seed(derived_seed(experiment.seed, "weights"))
    network = make_model(experiment.design, experiment.recipe.network, num_classes, experiment.image_size)
    memory_format = torch.channels_last if experiment.settings.channels_last else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    carry_out(network, experiment.settings.checkpoint_stages, experiment.settings.pointwise_linear)
    if experiment.pretrained is not None:
        loaded = load_pretrained(network, experiment.pretrained)
        if world.is_main:
            logger.info(loaded)
    return network


def load_pretrained(network: nn.Module, pretrained: str) -> str:
    """Load a weights file, a checkpoint or a run's last checkpoint into the network; return a message for the user.

    The names may be any that ``load_weights`` knows. A checkpoint's averaged weights are preferred. If the number of
    classes differs, the network keeps its own head. Raises RequestError, with nothing loaded, if the file is missing or
    does not match the network.
    """
    file = weights_file(pretrained)
    weights, averaged = weights_of(read_weights_file(file))
    try:
        new_head = load_weights(network, weights, new_head=True)
    except RequestError as error:
        raise RequestError(f"pretrained={pretrained}: {error}") from error
    head = "; the head is new, as the number of classes differs" if new_head else ""
    return f"starting from the {'averaged ' if averaged else ''}weights of {file}{head}"
