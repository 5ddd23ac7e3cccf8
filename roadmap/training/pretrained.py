"""Loads pretrained weights into a network before fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from roadmap.errors import RequestError
from roadmap.networks.models import head_name
from roadmap.networks.weights import load_weights
from roadmap.schema.experiment import weights_file
from roadmap.training.checkpoint import DAMAGED, averaged_weights


def load_pretrained(network: nn.Module, pretrained: str) -> list[str]:
    """Load a weights file, a checkpoint or a run's last checkpoint into the network; return messages for the user.

    The names may be any that ``load_weights`` knows. A checkpoint's averaged weights are preferred. If the number of
    classes differs, the network keeps its own head. Raises RequestError, with nothing loaded, if the file is missing or
    does not match the network.
    """
    weights, averaged, file = read_weights(pretrained)
    try:
        new_head = load_weights(network, weights, new_head=True)
    except RequestError as error:
        raise RequestError(f"pretrained={pretrained}: {error}") from error
    messages = [f"starting from the {'averaged ' if averaged else ''}weights of {file}"]
    if new_head:
        classes = len(network.get_parameter(f"{head_name(network)}.weight"))
        messages.append(f"the head is new: these weights do not have {classes} classes")
    return messages


def read_weights(pretrained: str) -> tuple[Mapping[str, Any], bool, Path]:
    """Return the weights of a file or of a run's last checkpoint, whether they are averaged, and the file.

    Raises RequestError if the file is missing or has no weights.
    """
    file = weights_file(pretrained)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise RequestError(f"pretrained={pretrained}: {file} is not a weights file, or is damaged") from error
    if not isinstance(content, Mapping):
        raise RequestError(
            f"pretrained={pretrained}: {file} must contain a state dict (found a {type(content).__name__})"
        )
    if "network" not in content:
        return content, False, file
    if content.get("ema") is None:
        return content["network"], False, file
    return averaged_weights(content["ema"]), True, file
