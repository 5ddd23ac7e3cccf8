"""Building the network of a config: our own from a Design, a baseline model from its library."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.network import Network
from roadmap.schema.design import BaselineModel, Design
from roadmap.schema.experiment import EvalTransform
from roadmap.schema.recipe import EvalResize, NetworkRecipe

# Embeddings without weight decay, for networks that do not declare their own.
EMBEDDINGS = ("class_token", "pos_embedding", "pos_embed", "cls_token", "relative_position_bias_table")

TIMM_RESIZE: dict[str, EvalResize] = {"center": "shorter_side", "squash": "squeeze"}  # timm's crop modes and ours


def make_model(design: Design | BaselineModel, recipe: NetworkRecipe, num_classes: int, image_size: int) -> nn.Module:
    """Return a network, images (N, 3, ``image_size``, ``image_size``) to logits (N, ``num_classes``).

    A baseline model takes stochastic depth (linear over its blocks) and ``head_init_scale`` from the recipe; initial
    weights and layer scale are its library's. Works on the meta device.

    Raises RequestError if the library does not have the model or cannot build it.
    """
    if isinstance(design, Design):
        return Network(design, recipe, num_classes)
    make = _make_torchvision if design.library == "torchvision" else _make_timm
    network = make(design, recipe.stochastic_depth, num_classes, image_size)
    head = network.get_submodule(head_name(network))
    if len(head.get_parameter("weight")) != num_classes:
        raise RequestError(f"{design.library}'s {design.name} is not a classifier of {num_classes} classes")
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


def _make_torchvision(baseline: BaselineModel, drop: float, num_classes: int, image_size: int) -> nn.Module:
    _check_name(baseline, torchvision.models.list_models(module=torchvision.models))
    arguments = {"weights": None, "num_classes": num_classes, **_sized(baseline, image_size), **baseline.options}
    network = _made(baseline, "with these options", lambda: torchvision.models.get_model(baseline.name, **arguments))
    drops = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    if drop and not drops:
        raise RequestError(
            f"recipe.network.stochastic_depth={drop} does not go with torchvision's {baseline.name}, which has none; "
            "add recipe.network.stochastic_depth=0"
        )
    for place, module in enumerate(drops):
        module.p = drop * place / max(len(drops) - 1, 1)
    return network


def _sized(baseline: BaselineModel, image_size: int) -> dict[str, Any]:
    if baseline.name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if baseline.name.startswith("maxvit") else {}


def _make_timm(baseline: BaselineModel, drop: float, num_classes: int, image_size: int) -> nn.Module:
    timm = _import_timm()
    if not timm.is_model(baseline.name):  # names may end in a weight tag
        _check_name(baseline, timm.list_models())
    config = timm.get_pretrained_cfg(baseline.name)
    sized = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    drops = {"drop_path_rate": drop} if drop else {}
    arguments = {"num_classes": num_classes, **sized, **drops, **baseline.options}
    how = f"with these options and stochastic_depth={drop}" if drop else "with these options"
    return _made(baseline, how, lambda: timm.create_model(baseline.name, **arguments))


def _import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise RequestError("model.library=timm is not installed; pip install 'convnext-roadmap[timm]'") from error
    return timm


def _check_name(baseline: BaselineModel, names: list[str]) -> None:
    if baseline.name not in names:
        near = get_close_matches(baseline.name, names, n=3) or names[:3]
        raise RequestError(f"{baseline.library} has no classifier '{baseline.name}'; did you mean {listed(near)}?")


def _made(baseline: BaselineModel, how: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Return the network that ``make`` builds; the library's errors become a RequestError."""
    try:
        return make()
    # libraries raise many kinds of errors for bad arguments
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{baseline.library} cannot make {baseline.name} {how}: {reason[:300]}") from error


@dataclass(frozen=True)
class LibraryWeights:
    """Pretrained weights in ``file`` with their evaluation transform; ``make`` builds the network for an image size."""

    name: str
    file: Path
    transform: EvalTransform
    num_classes: int
    make: Callable[[int], nn.Module]


def library_weights(baseline: BaselineModel, tag: str = "") -> LibraryWeights:
    """Return a baseline model's weights in its library's cache; ``tag`` selects weights other than the default.

    Raises RequestError if the library has none, or if the file is missing or does not hold plain weights.
    """
    return (_torchvision_weights if baseline.library == "torchvision" else _timm_weights)(baseline, tag)


def _torchvision_weights(baseline: BaselineModel, tag: str) -> LibraryWeights:
    models = torchvision.models
    _check_name(baseline, models.list_models(module=models))
    known = models.get_model_weights(baseline.name)
    if tag and tag not in known.__members__:
        raise RequestError(
            f"torchvision has no weights '{tag}' of {baseline.name} (choose {listed(known.__members__)})"
        )
    weights = known[tag] if tag else known.DEFAULT
    get = f"torchvision.models.get_model('{baseline.name}', weights='{weights.name}')"
    shown = weights.transforms()
    size = shown.crop_size[0]

    def make(image_size: int) -> nn.Module:
        arguments = {"weights": weights, **_sized(baseline, image_size), **baseline.options}
        how = f"with its weights for image_size={image_size}"
        return _made(baseline, how, lambda: models.get_model(baseline.name, **arguments))

    return LibraryWeights(
        name=weights.name,
        file=_checked(_hub_file(weights.url), get, weights.url),
        transform=EvalTransform(
            image_size=size,
            crop_ratio=size / shown.resize_size[0],
            interpolation=shown.interpolation.value,
            mean=tuple(shown.mean),
            std=tuple(shown.std),
        ),
        num_classes=len(weights.meta["categories"]),
        make=make,
    )


def _timm_weights(baseline: BaselineModel, tag: str) -> LibraryWeights:
    timm = _import_timm()
    name = f"{baseline.name.split('.')[0]}.{tag}" if tag else baseline.name
    try:
        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # an unknown tag
        config = None
    if config is None or not config.has_weights:
        raise RequestError(f"timm has no weights of '{name}'; see timm.list_pretrained()")
    file = _timm_file(config, f"timm.create_model('{name}', pretrained=True)")
    # as in timm's own validation
    shown = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict(), use_test_size=True)
    size = shown["input_size"][-1]
    if shown["crop_mode"] not in TIMM_RESIZE or shown["interpolation"] not in ("bilinear", "bicubic"):
        raise RequestError(f"{name} needs a preprocessing that is not supported: {shown}")

    def make(image_size: int) -> nn.Module:
        sized = {"img_size": image_size} if config.fixed_input_size and image_size != config.input_size[-1] else {}
        # a file instead of a URL: nothing is downloaded
        arguments = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}, **sized, **baseline.options}
        how = f"with its weights for image_size={image_size}"
        return _made(baseline, how, lambda: timm.create_model(name, **arguments))

    return LibraryWeights(
        name=config.tag or "default",
        file=file,
        transform=EvalTransform(
            image_size=size,
            # timm rounds the resized side down
            crop_ratio=size / int(size / shown["crop_pct"]),
            interpolation=shown["interpolation"],
            resize=TIMM_RESIZE[shown["crop_mode"]],
            mean=tuple(shown["mean"]),
            std=tuple(shown["std"]),
        ),
        num_classes=config.num_classes,
        make=make,
    )


def _timm_file(config: Any, get: str) -> Path:
    """Return the file of timm's weights, in the Hugging Face cache or in torch's."""
    if not config.hf_hub_id:
        return _checked(_hub_file(config.url), get, config.url)
    from huggingface_hub import constants, try_to_load_from_cache

    cache, repository = constants.HF_HUB_CACHE, config.hf_hub_id
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(repository, name, cache_dir=cache) for name in names]
    files = [Path(file) for file in found if isinstance(file, str)]
    return _checked((files or [Path(cache) / f"models--{repository.replace('/', '--')}"])[0], get, repository)


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _checked(file: Path, get: str, source: str) -> Path:
    """Return the file. Raises RequestError if it is missing, or a pickle of more than weights, which may run code."""
    if not file.is_file():
        command = f'python -c "import {get.split(".")[0]}; {get}"'
        raise RequestError(f"pretrained=library: {file} does not exist; download it with `{command}` ({source})")
    try:
        if file.suffix != ".safetensors":
            torch.load(file, map_location="meta", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise RequestError(
            f"{file} is damaged or does not hold plain weights; delete it and download it again"
        ) from error
    return file
