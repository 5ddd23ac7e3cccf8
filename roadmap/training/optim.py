"""Builds the optimizer and the learning-rate schedule of a recipe."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from roadmap.errors import RequestError
from roadmap.networks.models import undecayed
from roadmap.networks.network import Network
from roadmap.schema.recipe import OptimizerRecipe, ScheduleRecipe


def build_optimizer(network: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return SGD or AdamW; each parameter group has a ``name``.

    ``decay=matrices`` excludes vectors (biases, norms, layer scale) and a baseline model's position and token
    embeddings from weight decay. With ``layer_decay`` each layer's learning rate is that multiple of the next layer's.
    Raises RequestError for ``layer_decay`` with a baseline model.
    """
    layer, layers = _layers(network, recipe)
    excluded = undecayed(network) if recipe.decay == "matrices" else set()
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decayed = recipe.decay != "matrices" or (parameter.ndim > 1 and name not in excluded)
            groups[layer(name), not decayed].append(parameter)
    param_groups = [
        {
            "name": f"layer {number}, {'without' if undecayed_group else 'with'} weight decay",
            "params": parameters,
            "lr": recipe.lr * (recipe.layer_decay or 1.0) ** (layers - 1 - number),
            "weight_decay": 0.0 if undecayed_group else recipe.weight_decay,
        }
        for (number, undecayed_group), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]
    if recipe.name != "sgd":
        return torch.optim.AdamW(param_groups, lr=recipe.lr, betas=recipe.betas, fused=True)
    optimizer = torch.optim.SGD(param_groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)
    if recipe.momentum:
        # if the scaler of fp16 skips the first step, torch later uses uninitialised momentum buffers
        for parameter in (parameter for parameters in groups.values() for parameter in parameters):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _layers(network: nn.Module, recipe: OptimizerRecipe) -> tuple[Callable[[str], int], int]:
    """Return a function from a parameter's name to its layer, and the number of layers (1 without ``layer_decay``).

    Layer 0 is the stem; then there is one for each ``layer_group`` blocks of a stage, with the downsampling layer
    before them; the last one is the final norm and the head. For the depths (3, 3, 27, 3) these are the twelve groups
    of the official code (``optim_factory.py``).
    """
    if recipe.layer_decay is None:
        return lambda name: 0, 1
    if not isinstance(network, Network):
        raise RequestError("recipe.optimizer.layer_decay cannot be used with model= (only null)")
    depths = [len(list(stage.children())) for stage in network.get_submodule("stages").children()]
    # the layer of each stage's first block, and the head's
    first = [1 + sum(-(-depth // recipe.layer_group) for depth in depths[:stage]) for stage in range(len(depths) + 1)]

    def layer_of(name: str) -> int:
        part, *numbers = name.split(".")
        if part == "stem":
            return 0
        if part == "downsampling":
            return first[int(numbers[0])]
        return first[int(numbers[0])] + int(numbers[1]) // recipe.layer_group if part == "stages" else first[-1]

    return layer_of, first[-1] + 1


def lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer's moments the strides of their parameters, which fused optimizers assume without a check.

    A checkpoint may have been written with another ``channels_last``.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def gradient_adder(network: nn.Module) -> Callable[[Tensor], None]:
    """Return a function that does for a loss of ``network`` what ``Tensor.backward`` does, in fewer operators.

    ``backward`` also detaches each gradient. A gradient is copied where autograd would copy it: if it has
    other strides than its parameter, which fused optimizers assume without a check, or is that of two parameters.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    strides = [parameter.stride() for parameter in parameters]

    def add(loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        used = [id(gradient) for gradient in gradients if gradient is not None]
        shared, sums, more = len(set(used)) < len(used), [], []
        for parameter, stride, gradient in zip(parameters, strides, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is not None:
                sums.append(parameter.grad)
                more.append(gradient)
            elif shared or gradient.stride() != stride:
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            else:
                parameter.grad = gradient
        if sums:
            torch._foreach_add_(sums, more)

    return add


def learning_rate(update: int, updates: int, lr: float, recipe: ScheduleRecipe) -> float:
    """Return the learning rate of an update (from 0) out of ``updates``.

    The recipe's schedule is stretched or shrunk to ``updates``, with its warm-up and steps.
    """
    epoch = update / updates * recipe.epochs
    if epoch < recipe.warmup_epochs:
        return lr * epoch / recipe.warmup_epochs
    if recipe.name == "step":
        # 1e-9: division may round to just below an integer
        return lr * recipe.step_factor ** math.floor(epoch / recipe.step_epochs + 1e-9)
    progress = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return recipe.min_lr + (lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


def build_schedule(optimizer: torch.optim.Optimizer, recipe: ScheduleRecipe, lr: float, updates: int) -> LambdaLR:
    """Return a schedule to be stepped once per update; it scales each group's own learning rate."""
    return LambdaLR(optimizer, lambda update: learning_rate(update, updates, lr, recipe) / lr)
