"""Pretrained weights of torchvision and timm, read from their caches on disk."""

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
    """Weights in ``file`` with their evaluation transform; ``make`` builds the network for an image size."""

    name: str
    file: Path
    shown: EvalTransform
    num_classes: int
    make: Callable[[int], nn.Module]


def library_weights(baseline: BaselineModel, tag: str = "") -> LibraryWeights:
    """Return a baseline model's weights in its library's cache; ``tag`` selects weights other than the default.

    Raises RequestError if the library has none, or if the file is missing or damaged.
    """
    return READERS[baseline.library](baseline, tag)


def _torchvision(baseline: BaselineModel, tag: str) -> LibraryWeights:
    models = torchvision.models
    if baseline.name not in models.list_models(module=models):
        raise RequestError(f"torchvision has no classifier '{baseline.name}'")
    known = models.get_model_weights(baseline.name)
    if tag and tag not in known.__members__:
        raise RequestError(
            f"torchvision has no weights '{tag}' of {baseline.name} (choose {listed(known.__members__)})"
        )
    weights = known[tag] if tag else known.DEFAULT
    file = _hub_file(weights.url)
    _check_there(file, f"torchvision.models.get_model('{baseline.name}', weights='{weights.name}')", weights.url)
    shown = weights.transforms()
    size = shown.crop_size[0]
    start = next((start for start in SIZED if baseline.name.startswith(start)), None)

    def make(image_size: int) -> nn.Module:
        # these models and their weights have a fixed image size
        sized = SIZED[start](image_size) if start and image_size != size else {}
        return made_by_library(
            baseline,
            lambda: models.get_model(baseline.name, weights=weights, **sized, **baseline.options),
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


def _timm(baseline: BaselineModel, tag: str) -> LibraryWeights:
    timm = import_timm()
    name = f"{baseline.name.split('.')[0]}.{tag}" if tag else baseline.name
    try:
        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    # timm raises it for an unknown tag
    except RuntimeError:
        config = None
    if config is None or not config.has_weights:
        raise RequestError(f"timm has no weights of '{name}'; see timm.list_pretrained()")
    file = _timm_file(config, name)
    # as in timm's own validation
    shown = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict(), use_test_size=True)
    size = shown["input_size"][-1]
    if shown["crop_mode"] != "center" or shown["interpolation"] not in ("bilinear", "bicubic"):
        raise RequestError(
            f"timm evaluates {name} with crop mode {shown['crop_mode']} and {shown['interpolation']} interpolation, "
            "but only centre crops with bilinear or bicubic interpolation are supported"
        )

    def make(image_size: int) -> nn.Module:
        # a file instead of a URL: nothing is downloaded
        options: dict[str, Any] = {
            "pretrained": True,
            "pretrained_cfg_overlay": {"file": str(file)},
            **baseline.options,
        }
        if config.fixed_input_size and image_size != config.input_size[-1]:
            options["img_size"] = image_size
        how = f"with its weights for image_size={image_size}"
        return made_by_library(baseline, lambda: timm.create_model(name, **options), how)

    return LibraryWeights(
        name=config.tag or "default",
        file=file,
        shown=EvalTransform(
            image_size=size,
            # timm rounds the resized side down
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
    """Return the file of timm's weights, in the Hugging Face cache or in torch's."""
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
    """Raise RequestError if a file is missing or does not match the digest in its name."""
    if not file.is_file():
        raise _absent(file, get, url)
    _check_plain(file)
    said = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if said and not file_digest(file).startswith(said[1]):
        raise RequestError(
            f"{file} is damaged: its SHA-256 does not begin with {said[1]}; delete it and download it again"
        )


def _check_plain(file: Path) -> None:
    """Raise RequestError for a pickle that holds more than weights, since the libraries' readers may execute it."""
    if file.suffix == ".safetensors":
        return
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise RequestError(
            f"{file} is damaged or does not hold plain weights; delete it and download it again"
        ) from error


def _absent(place: Path, get: str, source: str) -> RequestError:
    library = get.split(".")[0]
    return RequestError(
        f'pretrained=library: {place} does not exist; download it with `python -c "import {library}; {get}"` ({source})'
    )
