"""Building the network of a config: our own from a Design, a baseline model from its library."""

from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.network import Network
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe

# Argument for the image size of torchvision's models that have a fixed one.
SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
# Models of torchvision that return several outputs in training by default.
ONE_OUTPUT = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Embeddings without weight decay, for networks that do not declare their own.
EMBEDDINGS = ("class_token", "pos_embedding", "pos_embed", "cls_token", "relative_position_bias_table")


def make_model(design: Design | BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    """Return a network, images (N, 3, ``image_size``, ``image_size``) to logits (N, ``num_classes``).

    A baseline model takes stochastic depth (linear over its blocks) and ``head_init_scale`` from the recipe; initial
    weights and layer scale are its library's. Works on the meta device.

    Raises RequestError if the library does not have the model or cannot build it.
    """
    if isinstance(design, Design):
        return Network(design, recipe, num_classes)
    network = MAKERS[design.library](design, recipe, num_classes, image_size)
    head = network.get_submodule(head_name(network))
    if len(head.get_parameter("weight")) != num_classes:
        raise RequestError(f"{design.library}'s {design.name} is not a classifier of {num_classes} classes")
    if recipe.head_init_scale != 1:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.mul_(recipe.head_init_scale)
    return network


def head_name(network: nn.Module) -> str:
    """Return the name of the last linear or convolutional layer, which computes a classifier's logits."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def undecayed(network: nn.Module) -> set[str]:
    """Return the names of parameters, other than vectors, that have no weight decay."""
    if isinstance(network, Network):
        return set()
    own = getattr(network, "no_weight_decay", None)
    if own is not None:
        return {str(name) for name in own()}
    return {name for name, _ in network.named_parameters() if name.rpartition(".")[2] in EMBEDDINGS}


def _torchvision(baseline: BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    models = torchvision.models
    names = models.list_models(module=models)
    if baseline.name not in names:
        raise _unknown(baseline, names)
    sized = next((sizes(image_size) for start, sizes in SIZED.items() if baseline.name.startswith(start)), {})
    arguments = {
        "weights": None,
        "num_classes": num_classes,
        **sized,
        **ONE_OUTPUT.get(baseline.name, {}),
        **baseline.options,
    }
    network = made_by_library(baseline, lambda: models.get_model(baseline.name, **arguments))
    drops = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if recipe.stochastic_depth and not drops:
        raise _no_drops(baseline, recipe)
    for place, module in enumerate(drops):
        module.p = recipe.stochastic_depth * place / max(len(drops) - 1, 1)
    return network


def _timm(baseline: BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    timm = import_timm()
    # timm's names may end in a weight tag
    if not timm.is_model(baseline.name):
        raise _unknown(baseline, timm.list_models())
    config = timm.get_pretrained_cfg(baseline.name)
    sized = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    arguments = {"num_classes": num_classes, **sized, **baseline.options}
    if not recipe.stochastic_depth:
        return made_by_library(baseline, lambda: timm.create_model(baseline.name, **arguments))
    try:
        return made_by_library(
            baseline, lambda: timm.create_model(baseline.name, drop_path_rate=recipe.stochastic_depth, **arguments)
        )
    except RequestError as error:
        if "drop_path_rate" in str(error):
            raise _no_drops(baseline, recipe) from error
        raise


def import_timm() -> ModuleType:
    """Import timm, an optional dependency. Raises RequestError if it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise RequestError("model.library=timm is not installed; pip install 'convnext-roadmap[timm]'") from error
    return timm


MAKERS: dict[str, Callable[[BaselineModel, NetworkRecipe, int, int], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}


def made_by_library(
    baseline: BaselineModel, make: Callable[[], nn.Module], how: str = "with these options"
) -> nn.Module:
    """Return the network that ``make`` builds; the library's errors become a RequestError."""
    try:
        return make()
    # libraries raise many kinds of errors for bad arguments
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{baseline.library} cannot make {baseline.name} {how}: {reason[:300]}") from error


def _unknown(baseline: BaselineModel, names: list[str]) -> RequestError:
    near = get_close_matches(baseline.name, names, n=3) or names[:3]
    return RequestError(f"{baseline.library} has no classifier '{baseline.name}'; did you mean {listed(near)}?")


def _no_drops(baseline: BaselineModel, recipe: NetworkRecipe) -> RequestError:
    return RequestError(
        f"recipe.network.stochastic_depth={recipe.stochastic_depth} does not go with {baseline.library}'s "
        f"{baseline.name}, which has none; add recipe.network.stochastic_depth=0"
    )
