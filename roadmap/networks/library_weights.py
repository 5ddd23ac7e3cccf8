"""The trained weights that torchvision and timm have for their networks, as far as they lie on disk."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torchvision
from torch import nn

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.networks.models import SIZED, import_timm, made_by_library
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.eval_transform import EvalTransform
from roadmap.schema.weights_file import file_digest


@dataclass(frozen=True)
class LibraryWeights:
    """Weights in ``file``, how their library shows images to them, and the network with them for an image size."""

    name: str
    file: Path
    shown: EvalTransform
    num_classes: int
    make: Callable[[int], nn.Module]


def library_weights(rival: BaselineModel, tag: str = "") -> LibraryWeights:
    """A rival's weights in its library's cache; ``tag`` chooses among several, the library's default unless given.

    Raises RequestError where the library has none, or they are not on this disk or damaged.
    """
    if rival.library not in READERS:
        raise RequestError(f"no library has weights of {rival.name}; name a file of them: pretrained=FILE")
    return READERS[rival.library](rival, tag)


def _torchvision(rival: BaselineModel, tag: str) -> LibraryWeights:
    models = torchvision.models
    if rival.name not in models.list_models(module=models):
        raise RequestError(f"torchvision has no classifier '{rival.name}'")
    known = models.get_model_weights(rival.name)
    if tag and tag not in known.__members__:
        raise RequestError(f"torchvision has no weights '{tag}' of {rival.name} (choose {listed(known.__members__)})")
    weights = known[tag] if tag else known.DEFAULT
    file = _hub_file(weights.url)
    _check_there(file, f"torchvision.models.get_model('{rival.name}', weights='{weights.name}')", weights.url)
    shown = weights.transforms()
    size = shown.crop_size[0]
    start = next((start for start in SIZED if rival.name.startswith(start)), None)

    def make(image_size: int) -> nn.Module:
        # torchvision builds these for one size, and its weights are for one
        sized = SIZED[start](image_size) if start and image_size != size else {}
        return made_by_library(
            rival,
            lambda: models.get_model(rival.name, weights=weights, **sized, **rival.options),
            f"with its weights for image_size={image_size}",
        )

    return LibraryWeights(
        name=weights.name,
        file=file,
        shown=EvalTransform(
            image_size=size,
            crop_ratio=size / shown.resize_size[0],
            interpolation=shown.interpolation.value,
            mean=tuple(shown.mean),
            std=tuple(shown.std),
        ),
        num_classes=len(weights.meta["categories"]),
        make=make,
    )


def _timm(rival: BaselineModel, tag: str) -> LibraryWeights:
    timm = import_timm()
    name = f"{rival.name.split('.')[0]}.{tag}" if tag else rival.name
    try:
        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    # its own for an unknown tag
    except RuntimeError:
        config = None
    if config is None or not config.has_weights:
        raise RequestError(f"timm has no weights of '{name}'; `timm.list_pretrained()` lists those that it has")
    file = _timm_file(config, name)
    # as its own validation shows them
    shown = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict(), use_test_size=True)
    size = shown["input_size"][-1]
    if shown["crop_mode"] != "center" or shown["interpolation"] not in ("bilinear", "bicubic"):
        raise RequestError(
            f"timm evaluates {name} with crop mode {shown['crop_mode']} and {shown['interpolation']} interpolation, "
            "and here there are only centre crops, bilinear or bicubic"
        )

    def make(image_size: int) -> nn.Module:
        # a file in the place of an address: nothing is asked of a network
        options: dict[str, Any] = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}, **rival.options}
        if config.fixed_input_size and image_size != config.input_size[-1]:
            options["img_size"] = image_size
        how = f"with its weights for image_size={image_size}"
        return made_by_library(rival, lambda: timm.create_model(name, **options), how)

    return LibraryWeights(
        name=config.tag or "default",
        file=file,
        shown=EvalTransform(
            image_size=size,
            # timm cuts the resized side off to whole pixels
            crop_ratio=size / int(size / shown["crop_pct"]),
            interpolation=shown["interpolation"],
            mean=tuple(shown["mean"]),
            std=tuple(shown["std"]),
        ),
        num_classes=config.num_classes,
        make=make,
    )


READERS: dict[str, Callable[[BaselineModel, str], LibraryWeights]] = {"torchvision": _torchvision, "timm": _timm}


def _timm_file(config: Any, name: str) -> Path:
    """Where timm's weights lie: in the hub's cache, or an older address's file in torch's."""
    get = f"timm.create_model('{name}', pretrained=True)"
    if not config.hf_hub_id:
        file = _hub_file(config.url)
        _check_there(file, get, config.url)
        return file
    from huggingface_hub import constants, try_to_load_from_cache

    cache, repository = constants.HF_HUB_CACHE, config.hf_hub_id
    for file_name in [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]:
        found = try_to_load_from_cache(repository, file_name, cache_dir=cache)
        if isinstance(found, str):
            _check_plain(Path(found))
            return Path(found)
    raise _absent(Path(cache) / f"models--{repository.replace('/', '--')}", get, repository)


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _check_there(file: Path, get: str, url: str) -> None:
    """Raises RequestError for a file that is missing, or whose content is not what its name says."""
    if not file.is_file():
        raise _absent(file, get, url)
    _check_plain(file)
    said = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if said and not file_digest(file).startswith(said[1]):
        raise RequestError(f"{file} is damaged: its SHA-256 does not begin with {said[1]}; remove it and get it again")


def _check_plain(file: Path) -> None:
    """Raises RequestError for a pickle of more than weights: the libraries' own readers may run what is in it."""
    if file.suffix == ".safetensors":
        return
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise RequestError(f"{file} holds no plain weights, or is damaged; remove it and get it again") from error


def _absent(place: Path, get: str, source: str) -> RequestError:
    library = get.split(".")[0]
    return RequestError(
        f"pretrained=library: there is no {place}, and nothing is downloaded here; where there is a network, get it "
        f'with `python -c "import {library}; {get}"` ({source})'
    )
