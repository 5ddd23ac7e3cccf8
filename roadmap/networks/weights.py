"""Loading state dicts with the names of torchvision, timm or the official repositories."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from roadmap.errors import RequestError
from roadmap.networks.models import head_name
from roadmap.networks.network import Network


@dataclass(frozen=True)
class Naming:
    """A code base's tensor names: prefixes outside the blocks, and the parts of a block."""

    name: str
    outside: dict[str, str]
    stage: Callable[[int], str]  # prefix of a block's number
    block: dict[str, str]


def _convnext(
    name: str, outside: str, downsampling: Callable[[int], str], stage: Callable[[int], str], block: str
) -> Naming:
    """``outside``: the names of the stem's conv and norm, of the norm and of the head; ``block``: those of a block."""
    ours = ("stem.conv", "stem.norm", "norm", "head")
    parts = ("branch.spatial", "branch.norm", "branch.pw_in", "branch.pw_out", "scale.weight")
    between = {
        f"{downsampling(i)}.{place}": f"downsampling.{i}.{part}"
        for i in (1, 2, 3)
        for place, part in enumerate(("norm", "conv"))
    }
    return Naming(
        name,
        dict(zip(outside.split(), ours, strict=True)) | between,
        stage,
        dict(zip(block.split(), parts, strict=True)),
    )


OFFICIAL_BLOCK = "dwconv norm pwconv1 pwconv2 gamma"
NAMINGS = (
    Naming(
        "this package",
        {name: name for name in ("stem", "downsampling", "norm", "head")},
        lambda i: f"stages.{i}",
        {name: name for name in ("branch", "scale", "shortcut")},
    ),
    Naming(
        # torchvision, timm and the original code use the same names
        "torchvision's ResNet",
        {"conv1": "stem.conv", "bn1": "stem.norm", "fc": "head"},
        lambda i: f"layer{i + 1}",
        {
            "conv1": "branch.pw_in",
            "bn1": "branch.pw_in_norm",
            "conv2": "branch.spatial",
            "bn2": "branch.spatial_norm",
            "conv3": "branch.pw_out",
            "bn3": "branch.pw_out_norm",
            "downsample.0": "shortcut.conv",
            "downsample.1": "shortcut.norm",
        },
    ),
    _convnext(
        "torchvision's ConvNeXt",
        "features.0.0 features.0.1 classifier.0 classifier.2",
        lambda i: f"features.{2 * i}",
        lambda i: f"features.{2 * i + 1}",
        "block.0 block.2 block.3 block.5 layer_scale",
    ),
    _convnext(
        "timm's ConvNeXt",
        "stem.0 stem.1 head.norm head.fc",
        lambda i: f"stages.{i}.downsample",
        lambda i: f"stages.{i}.blocks",
        "conv_dw norm mlp.fc1 mlp.fc2 gamma",
    ),
    _convnext(
        "the official ConvNeXt",
        "downsample_layers.0.0 downsample_layers.0.1 norm head",
        lambda i: f"downsample_layers.{i}",
        lambda i: f"stages.{i}",
        OFFICIAL_BLOCK,
    ),
    _convnext(
        "the official isotropic ConvNeXt",
        "stem stem.norm norm head",
        lambda i: f"downsample_layers.{i}",
        lambda i: "blocks" if i == 0 else f"stages.{i}",
        OFFICIAL_BLOCK,
    ),
)


def load_weights(network: nn.Module, state_dict: Mapping[str, Any], *, new_head: bool = False) -> bool:
    """Copy ``state_dict`` into ``network``; every key must match.

    Our own networks accept ResNets (50 to 200) and ConvNeXts with the names of torchvision, timm, the official
    repositories (also nested under a key ``model``) or this package. A baseline model accepts its library's names.
    Prefixes of DDP and torch.compile are removed. Only BatchNorm's ``num_batches_tracked`` may be missing. Linear
    layers are reshaped to 1×1 convolutions, layer scales of shape (C, 1, 1) to (C,). The network keeps its device,
    dtype and memory format.

    With ``new_head``, a head with another number of classes is not loaded. Returns True if that was the case.

    Raises RequestError, before anything is copied, for missing or unexpected keys, other shapes, or unknown names.
    """
    nested = state_dict.get("model")
    given = nested if isinstance(nested, Mapping) else state_dict
    if not given or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in given.items()):
        raise RequestError("not a state dict: it must map names to tensors")
    naming = _recognised(given) if isinstance(network, Network) else None
    mismatch = f"these weights (names of {naming.name if naming else 'its library'}) do not match the network"

    own = network.state_dict()
    placed: dict[str, tuple[str, Tensor]] = {}
    unexpected: list[str] = []
    for key, tensor in given.items():
        ours = _our_name(key, naming)
        if ours in own and ours not in placed:
            placed[ours] = (key, tensor)
        else:
            unexpected.append(key)
    # old checkpoints lack these counters
    missing = [key for key in own if key not in placed and not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        parts = [f"{word} {_some(keys)}" for word, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        scales = all(re.search(r"(scale\.weight|layer_scale|gamma)$", key) for key in (*missing, *unexpected))
        hint = "; layer scale is set by the recipe: original has none, enhanced has it" if scales else ""
        raise RequestError(f"{mismatch}: {'; '.join(parts)}{hint}")
    head = "head" if naming else head_name(network)
    other_head = new_head and placed[f"{head}.weight"][1].shape[:1] != own[f"{head}.weight"].shape[:1]
    if other_head:
        placed = {ours: found for ours, found in placed.items() if not ours.startswith(f"{head}.")}
    misshapen = [
        f"{key} has shape {tuple(tensor.shape)}, expected {tuple(own[ours].shape)}"
        for ours, (key, tensor) in placed.items()
        if tensor.squeeze().shape != own[ours].squeeze().shape
    ]
    if misshapen:
        raise RequestError(f"{mismatch}: {_some(misshapen)}")
    with torch.no_grad():
        for ours, (_, tensor) in placed.items():
            own[ours].copy_(tensor.reshape(own[ours].shape))
    return other_head


def _recognised(given: Mapping[str, Any]) -> Naming:
    """Return the naming that most keys follow."""
    followers = {naming.name: sum(_our_name(key, naming) is not None for key in given) for naming in NAMINGS}
    naming = max(NAMINGS, key=lambda naming: followers[naming.name])
    if followers[naming.name] <= len(given) / 2:  # some names, such as head, are in every network
        raise RequestError(f"unknown names {_some(list(given))} (known are those of {', '.join(followers)})")
    return naming


def _our_name(key: str, naming: Naming | None) -> str | None:
    """Return our name of a tensor, or None if it is not one of the naming's."""
    key = re.sub(r"^((module|_orig_mod)\.)+", "", key)
    if naming is None:
        return key
    prefixes, before = naming.outside, ""
    for stage in range(4):
        if match := re.fullmatch(rf"{re.escape(naming.stage(stage))}\.(\d+)\.(.+)", key):
            prefixes, before, key = naming.block, f"stages.{stage}.{match[1]}.", match[2]
            break
    for theirs, ours in prefixes.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return before + ours + key.removeprefix(theirs)
    return None


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
