"""Optimizer and learning-rate schedule from a recipe's numbers."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from roadmap.recipe import OptimizerRecipe, ScheduleRecipe


def build_optimizer(network: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """SGD or AdamW. ``decay=matrices`` keeps weight decay off vectors: biases, norms, layer scale (one dimension)."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1 or recipe.decay == "all"]
    spared = [p for p in parameters if p.ndim <= 1 and recipe.decay == "matrices"]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)
        # torch leaves them uninitialised until a step is taken, and takes them for good where fp16's scaler skipped it
        for parameter in parameters if recipe.momentum else []:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


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
    """``learning_rate`` on the optimizer, to be stepped once per update."""
    return LambdaLR(optimizer, lambda update: learning_rate(update, updates, lr, recipe) / lr)
