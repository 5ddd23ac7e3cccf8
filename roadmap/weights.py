"""Weights from elsewhere: torchvision's, timm's and the official repositories' names into ours."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from roadmap.errors import RequestError
from roadmap.network import Network


@dataclass(frozen=True)
class Naming:
    """How a code base names a network's tensors: prefixes outside the blocks, and the parts of a block."""

    name: str
    known_by: str  # a key that no other naming has
    outside: dict[str, str]
    stage: Callable[[int], str]  # what stands before a block's number
    block: dict[str, str]


CONVNEXT_BLOCK = ("branch.spatial", "branch.norm", "branch.enter", "branch.leave", "scale.weight")
NAMINGS = (
    Naming(
        # one set of names in torchvision, timm and the original code
        "ResNet's",
        "layer1.0.conv1.weight",
        {"conv1": "stem.conv", "bn1": "stem.norm", "fc": "head"},
        lambda stage: f"layer{stage + 1}",
        {
            "conv1": "branch.enter",
            "bn1": "branch.enter_norm",
            "conv2": "branch.spatial",
            "bn2": "branch.spatial_norm",
            "conv3": "branch.leave",
            "bn3": "branch.leave_norm",
            "downsample.0": "shortcut.conv",
            "downsample.1": "shortcut.norm",
        },
    ),
    Naming(
        "torchvision's ConvNeXt",
        "features.0.0.weight",
        {"features.0.0": "stem.conv", "features.0.1": "stem.norm", "classifier.0": "norm", "classifier.2": "head"}
        | {f"features.{2 * i}.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"features.{2 * i}.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"features.{2 * stage + 1}",
        dict(zip(("block.0", "block.2", "block.3", "block.5", "layer_scale"), CONVNEXT_BLOCK, strict=True)),
    ),
    Naming(
        "timm's ConvNeXt",
        "stages.0.blocks.0.conv_dw.weight",
        {"stem.0": "stem.conv", "stem.1": "stem.norm", "head.norm": "norm", "head.fc": "head"}
        | {f"stages.{i}.downsample.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"stages.{i}.downsample.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"stages.{stage}.blocks",
        dict(zip(("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"), CONVNEXT_BLOCK, strict=True)),
    ),
    Naming(
        "the official ConvNeXt",
        "downsample_layers.0.0.weight",
        {"downsample_layers.0.0": "stem.conv", "downsample_layers.0.1": "stem.norm", "norm": "norm", "head": "head"}
        | {f"downsample_layers.{i}.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"downsample_layers.{i}.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"stages.{stage}",
        dict(zip(("dwconv", "norm", "pwconv1", "pwconv2", "gamma"), CONVNEXT_BLOCK, strict=True)),
    ),
)


def load_weights(network: Network, state_dict: Mapping[str, Any]) -> None:
    """Copy ``state_dict`` into ``network``, strictly: every tensor must have its place and every place its tensor.

    Takes ResNets (50 to 200) and ConvNeXts in torchvision's, timm's or the official repositories' names (the last
    also as they are handed out, under a key ``model``), and our own. Linear layers become 1x1 convolutions, layer
    scales of shape (C, 1, 1) become (C,). Device, dtype and memory format stay the network's.

    Raises RequestError naming the keys that are missing, unexpected or of another shape; nothing is loaded then.
    """
    nested = state_dict.get("model")
    given = nested if isinstance(nested, Mapping) else state_dict
    strangers = [str(key) for key, value in given.items() if not isinstance(value, Tensor)]
    if strangers or not given:
        raise RequestError(f"no state dict: {f'{_some(strangers)} is no tensor' if strangers else 'it is empty'}")
    own = network.state_dict()
    naming = next((naming for naming in NAMINGS if naming.known_by in given), None)
    source = f"names of {naming.name}" if naming else "our own names"
    renamed = {_our_name(key, naming): (key, tensor) for key, tensor in given.items()}

    # counters that old checkpoints lack
    missing = [key for key in own if key not in renamed and not key.endswith("num_batches_tracked")]
    unexpected = [key for ours, (key, _) in renamed.items() if ours not in own]
    if missing or unexpected:
        parts = [f"missing {_some(missing)}"] if missing else []
        parts += [f"unexpected {_some(unexpected)}"] if unexpected else []
        hint = _layer_scale_hint(missing, [_our_name(key, naming) for key in unexpected])
        raise RequestError(f"these weights ({source}) do not fit the network: {'; '.join(parts)}{hint}")
    for ours, (key, tensor) in renamed.items():
        if _squeezed(tensor.shape) != _squeezed(own[ours].shape):
            raise RequestError(
                f"these weights ({source}) do not fit the network: {key} has shape {tuple(tensor.shape)}, "
                f"{ours} wants {tuple(own[ours].shape)}"
            )
    with torch.no_grad():
        for ours, (_, tensor) in renamed.items():
            own[ours].copy_(tensor.reshape(own[ours].shape))


def _our_name(key: str, naming: Naming | None) -> str:
    if naming is None:
        return key
    for stage in range(4):
        if match := re.fullmatch(rf"{re.escape(naming.stage(stage))}\.(\d+)\.(.+)", key):
            block, rest = match.groups()
            return _replaced(rest, naming.block, f"stages.{stage}.{block}.") or key
    return _replaced(key, naming.outside, "") or key


def _replaced(key: str, prefixes: Mapping[str, str], before: str) -> str | None:
    for theirs, ours in prefixes.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return before + ours + key.removeprefix(theirs)
    return None


def _squeezed(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _some(keys: Iterable[str]) -> str:
    first, rest = list(keys)[:3], len(list(keys)) - 3
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def _layer_scale_hint(missing: list[str], unexpected: list[str]) -> str:
    odd = [*missing, *unexpected]
    if not all(key.endswith("scale.weight") for key in odd):
        return ""
    recipe = "original" if missing else "enhanced"
    return f"; layer scale belongs to the recipe: build the network with recipe={recipe}"
