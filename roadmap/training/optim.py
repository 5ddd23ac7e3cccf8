"""Optimizer and learning-rate schedule from a recipe's numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from roadmap.errors import RequestError
from roadmap.networks.models import undecayed
from roadmap.networks.network import Network
from roadmap.schema.recipe import OptimizerRecipe, ScheduleRecipe


def build_optimizer(network: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """SGD or AdamW, each of its groups with a ``name``.

    ``decay=matrices`` keeps weight decay off vectors (biases, norms, layer scale: one dimension) and off baseline models'
    tables of positions and tokens. With ``layer_decay`` a layer's learning rate is that share of the one above it, from
    the start of the schedule to its end. Raises RequestError for ``layer_decay`` on a baseline model.
    """
    layer, layers = _layers(network, recipe)
    kept = undecayed(network) if recipe.decay == "matrices" else set()
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        spared = (parameter.ndim <= 1 and recipe.decay == "matrices") or name in kept
        key = (layer(name), spared)
        if key not in groups:
            groups[key] = {
                "name": f"layer {key[0]}, {'without' if spared else 'with'} weight decay",
                "params": [],
                "lr": recipe.lr * (recipe.layer_decay or 1.0) ** (layers - 1 - key[0]),
                "weight_decay": 0.0 if spared else recipe.weight_decay,
            }
        groups[key]["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups)]
    if recipe.name == "sgd":
        optimizer = torch.optim.SGD(ordered, lr=recipe.lr, momentum=recipe.momentum, fused=True)
        # torch leaves them uninitialised until a step is taken, and takes them for good where fp16's scaler skipped it
        for parameter in (p for group in ordered if recipe.momentum for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    return torch.optim.AdamW(ordered, lr=recipe.lr, betas=recipe.betas, fused=True)


def _layers(network: nn.Module, recipe: OptimizerRecipe) -> tuple[Callable[[str], int], int]:
    """From a parameter's name its layer, and how many there are; without ``layer_decay`` all is one layer."""
    if recipe.layer_decay is None:
        return lambda name: 0, 1
    if not isinstance(network, Network):
        raise RequestError("recipe.optimizer.layer_decay is of our own network's layers; with model= it wants null")
    depths = [len(list(stage.children())) for stage in network.get_submodule("stages").children()]
    first = [1 + sum(-(-depth // recipe.layer_group) for depth in depths[:stage]) for stage in range(len(depths) + 1)]
    return lambda name: layer_of(name, first, recipe.layer_group), first[-1] + 1


def layer_of(name: str, first: Sequence[int], group: int) -> int:
    """The layer of a parameter: the stem's is 0, then every ``group`` blocks of a stage make one, the head's is last.

    ``first`` is the layer of each stage's first block, and of the head. The convolution before a stage belongs to its
    first blocks, the last norm to the head: the groups of the official code (``optim_factory.py``), which has twelve
    of them for the depths (3, 3, 27, 3); here they are as many as the design's depths ask for.
    """
    part, *numbers = name.split(".")
    if part == "stem":
        return 0
    if part == "downsampling":
        return first[int(numbers[0])]
    if part == "stages":
        return first[int(numbers[0])] + int(numbers[1]) // group
    return first[-1]


def learning_rate(update: int, updates: int, lr: float, recipe: ScheduleRecipe) -> float:
    """The learning rate of the 0-based ``update`` out of ``updates``.

    The schedule is the recipe's, drawn over ``updates``: trained for other epochs than it names, warm-up and steps
    shrink or stretch with the whole.
    """
    epoch = update / updates * recipe.epochs
    if epoch < recipe.warmup_epochs:
        return lr * epoch / recipe.warmup_epochs
    if recipe.name == "step":
        # the small number forgives what division loses just below a whole step
        return lr * recipe.step_factor ** math.floor(epoch / recipe.step_epochs + 1e-9)
    progress = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return recipe.min_lr + (lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


def build_schedule(optimizer: torch.optim.Optimizer, recipe: ScheduleRecipe, lr: float, updates: int) -> LambdaLR:
    """``learning_rate`` on the optimizer, to be stepped once per update; each group has its own share of ``lr``."""
    return LambdaLR(optimizer, lambda update: learning_rate(update, updates, lr, recipe) / lr)
