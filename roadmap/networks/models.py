"""Any network that a config can ask for: ours from a Design, every other from its library."""

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
from roadmap.networks.rvt import rvt
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe

# What torchvision's Transformers of a fixed image size call it.
SIZED: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
# Networks of torchvision's that give several outputs in training unless they are told not to.
ONE_OUTPUT = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Tables of positions and tokens, which no recipe of their papers decays, where a network does not name its own.
EMBEDDINGS = ("class_token", "pos_embedding", "pos_embed", "cls_token", "relative_position_bias_table")


def make_model(design: Design | BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    """The network of a design, images (N, 3, ``image_size``, ``image_size``) to logits (N, ``num_classes``).

    Of a recipe a rival takes its stochastic depth, rising linearly from the first block to the last as its library has
    it, and the scale of the head's initial weights; initial weights and layer scale are its library's own. Works on
    the meta device.

    Raises RequestError where the library does not have the network or cannot make it so.
    """
    if isinstance(design, Design):
        return Network(design, recipe, num_classes)
    network = MAKERS[design.library](design, recipe, num_classes, image_size)
    head = network.get_submodule(head_name(network))
    if len(head.get_parameter("weight")) != num_classes:
        raise RequestError(f"{design.library}'s {design.name} is no classifier of {num_classes} classes")
    if recipe.head_init_scale != 1:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.mul_(recipe.head_init_scale)
    return network


def head_name(network: nn.Module) -> str:
    """What the last layer of weights is called in its network: of a classifier, the one that puts out the logits."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def undecayed(network: nn.Module) -> set[str]:
    """Names of parameters that weight decay leaves alone beside vectors: what the network says, or its embeddings."""
    if isinstance(network, Network):
        return set()
    own = getattr(network, "no_weight_decay", None)
    if own is not None:
        return {str(name) for name in own()}
    return {name for name, _ in network.named_parameters() if name.rpartition(".")[2] in EMBEDDINGS}


def _torchvision(rival: BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    models = torchvision.models
    names = models.list_models(module=models)
    if rival.name not in names:
        raise _unknown(rival, names)
    sized = next((sizes(image_size) for start, sizes in SIZED.items() if rival.name.startswith(start)), {})
    arguments = {
        "weights": None,
        "num_classes": num_classes,
        **sized,
        **ONE_OUTPUT.get(rival.name, {}),
        **rival.options,
    }
    network = made_by_library(rival, lambda: models.get_model(rival.name, **arguments))
    drops = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if recipe.stochastic_depth and not drops:
        raise _no_drops(rival, recipe)
    for place, module in enumerate(drops):
        module.p = recipe.stochastic_depth * place / max(len(drops) - 1, 1)
    return network


def _timm(rival: BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    timm = import_timm()
    # timm's names may end in a tag of the weights
    if not timm.is_model(rival.name):
        raise _unknown(rival, timm.list_models())
    config = timm.get_pretrained_cfg(rival.name)
    sized = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    arguments = {"num_classes": num_classes, **sized, **rival.options}
    if not recipe.stochastic_depth:
        return made_by_library(rival, lambda: timm.create_model(rival.name, **arguments))
    try:
        return made_by_library(
            rival, lambda: timm.create_model(rival.name, drop_path_rate=recipe.stochastic_depth, **arguments)
        )
    except RequestError as error:
        if "drop_path_rate" in str(error):
            raise _no_drops(rival, recipe) from error
        raise


def _own(rival: BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    drop = recipe.stochastic_depth
    return made_by_library(rival, lambda: rvt(rival.name, num_classes, image_size, drop, **rival.options))


def import_timm() -> ModuleType:
    """timm, which is heavy and an extra. Raises RequestError where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise RequestError("model.library=timm is not installed; pip install 'convnext-roadmap[timm]'") from error
    return timm


MAKERS: dict[str, Callable[[BaselineModel, NetworkRecipe, int, int], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "roadmap": _own,
}


def made_by_library(rival: BaselineModel, make: Callable[[], nn.Module], how: str = "so") -> nn.Module:
    """What a library makes. Raises RequestError, in one sentence, for whatever it objects to."""
    try:
        return make()
    # libraries check their arguments with whatever comes to hand, and read files
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{rival.library} cannot make {rival.name} {how}: {reason[:300]}") from error


def _unknown(rival: BaselineModel, names: list[str]) -> RequestError:
    near = get_close_matches(rival.name, names, n=3) or names[:3]
    return RequestError(f"{rival.library} has no classifier '{rival.name}'; did you mean {listed(near)}?")


def _no_drops(rival: BaselineModel, recipe: NetworkRecipe) -> RequestError:
    return RequestError(
        f"recipe.network.stochastic_depth={recipe.stochastic_depth} does not go with {rival.library}'s {rival.name}, "
        "which has none; add recipe.network.stochastic_depth=0"
    )
