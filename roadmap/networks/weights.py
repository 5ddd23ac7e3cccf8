"""Loading state dicts with the names of torchvision, timm or the official repositories."""

import re
from collections.abc import Callable, Collection, Mapping
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


CONVNEXT_BLOCK = ("branch.spatial", "branch.norm", "branch.pw_in", "branch.pw_out", "scale.weight")
NAMINGS = (
    Naming(
        "this package",
        {name: name for name in ("stem", "downsampling", "norm", "head")},
        lambda stage: f"stages.{stage}",
        {name: name for name in ("branch", "scale", "shortcut")},
    ),
    Naming(
        # torchvision, timm and the original code use the same names
        "torchvision's ResNet",
        {"conv1": "stem.conv", "bn1": "stem.norm", "fc": "head"},
        lambda stage: f"layer{stage + 1}",
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
    Naming(
        "torchvision's ConvNeXt",
        {"features.0.0": "stem.conv", "features.0.1": "stem.norm", "classifier.0": "norm", "classifier.2": "head"}
        | {f"features.{2 * i}.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"features.{2 * i}.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"features.{2 * stage + 1}",
        dict(zip(("block.0", "block.2", "block.3", "block.5", "layer_scale"), CONVNEXT_BLOCK, strict=True)),
    ),
    Naming(
        "timm's ConvNeXt",
        {"stem.0": "stem.conv", "stem.1": "stem.norm", "head.norm": "norm", "head.fc": "head"}
        | {f"stages.{i}.downsample.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"stages.{i}.downsample.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"stages.{stage}.blocks",
        dict(zip(("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"), CONVNEXT_BLOCK, strict=True)),
    ),
    Naming(
        "the official ConvNeXt",
        {"downsample_layers.0.0": "stem.conv", "downsample_layers.0.1": "stem.norm", "norm": "norm", "head": "head"}
        | {f"downsample_layers.{i}.0": f"downsampling.{i}.norm" for i in (1, 2, 3)}
        | {f"downsample_layers.{i}.1": f"downsampling.{i}.conv" for i in (1, 2, 3)},
        lambda stage: f"stages.{stage}",
        dict(zip(("dwconv", "norm", "pwconv1", "pwconv2", "gamma"), CONVNEXT_BLOCK, strict=True)),
    ),
    Naming(
        "the official isotropic ConvNeXt",
        {"stem": "stem.conv", "norm": "norm", "head": "head"},
        lambda stage: "blocks" if stage == 0 else "no such stage",
        dict(zip(("dwconv", "norm", "pwconv1", "pwconv2", "gamma"), CONVNEXT_BLOCK, strict=True)),
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
    others = [str(key) for key, value in given.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not given:
        reason = f"values must be tensors (not so: {_some(others)})" if others else "it is empty"
        raise RequestError(f"not a state dict: {reason}")
    naming = _recognised(given) if isinstance(network, Network) else None
    head = "head" if naming else head_name(network)
    mismatch = f"these weights (names of {naming.name if naming else 'its library'}) do not match the network"

    own = network.state_dict()
    placed: dict[str, tuple[str, Tensor]] = {}
    unexpected: dict[str, str | None] = {}  # their name to ours
    for key, tensor in given.items():
        ours = _our_name(key, naming) if naming else _without_prefix(key)
        if ours in own and ours not in placed:
            placed[ours] = (key, tensor)
        else:
            unexpected[key] = ours
    # old checkpoints lack these counters
    missing = [key for key in own if key not in placed and not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        parts = [f"missing {_some(missing)}"] if missing else []
        parts += [f"unexpected {_some(unexpected)}"] if unexpected else []
        hint = _layer_scale_hint(missing, unexpected.values(), placed)
        raise RequestError(f"{mismatch}: {'; '.join(parts)}{hint}")
    other_head = new_head and placed[f"{head}.weight"][1].shape[:1] != own[f"{head}.weight"].shape[:1]
    if other_head:
        placed = {ours: found for ours, found in placed.items() if not ours.startswith(f"{head}.")}
    misshapen = [
        f"{key} has shape {tuple(tensor.shape)}, expected {tuple(own[ours].shape)}"
        for ours, (key, tensor) in placed.items()
        if _squeezed(tensor.shape) != _squeezed(own[ours].shape)
    ]
    if misshapen:
        raise RequestError(f"{mismatch}: {_some(misshapen)}")
    with torch.no_grad():
        for ours, (_, tensor) in placed.items():
            own[ours].copy_(tensor.reshape(own[ours].shape))
    return other_head


def _recognised(given: Mapping[str, Any]) -> Naming:
    """Return the naming that most keys follow."""

    def followers(naming: Naming) -> int:
        return sum(_our_name(key, naming) is not None for key in given)

    naming = max(NAMINGS, key=followers)
    if followers(naming) <= len(given) / 2:  # some names, such as head, are in every network
        known = ", ".join(naming.name for naming in NAMINGS)
        raise RequestError(f"unknown names {_some(given)} (known are those of {known})")
    return naming


def _our_name(key: str, naming: Naming) -> str | None:
    key = _without_prefix(key)
    for stage in range(4):
        if match := re.fullmatch(rf"{re.escape(naming.stage(stage))}\.(\d+)\.(.+)", key):
            block, rest = match.groups()
            return _replaced(rest, naming.block, f"stages.{stage}.{block}.")
    return _replaced(key, naming.outside, "")


def _without_prefix(key: str) -> str:
    """Return a name without the prefixes of DDP and torch.compile."""
    return re.sub(r"^((module|_orig_mod)\.)+", "", key)


def _replaced(key: str, prefixes: Mapping[str, str], before: str) -> str | None:
    for theirs, ours in prefixes.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return before + ours + key.removeprefix(theirs)
    return None


def _squeezed(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _some(keys: Collection[str]) -> str:
    first, rest = list(keys)[:3], len(keys) - 3
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def _layer_scale_hint(missing: Collection[str], unexpected: Collection[str | None], placed: Collection[str]) -> str:
    """Return a hint if layer scale is the only difference."""
    if not all((key or "").endswith("scale.weight") for key in (*missing, *unexpected)):
        return ""
    if any(key.endswith("scale.weight") for key in placed):
        return ""
    recipe = "original" if missing else "enhanced"
    return f"; recipe=enhanced has layer scale: build the network with recipe={recipe}"
