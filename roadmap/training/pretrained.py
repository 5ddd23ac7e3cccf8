"""A network that starts from weights trained before, as fine-tuning does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from roadmap.errors import RequestError
from roadmap.networks.models import head_name
from roadmap.networks.weights import load_weights
from roadmap.schema.weights_file import weights_file
from roadmap.training.checkpoint import DAMAGED, averaged_weights


def load_pretrained(network: nn.Module, pretrained: str) -> list[str]:
    """Load a file of weights in any naming that ``load_weights`` knows, one of our checkpoints, or a run's last one.

    Averaged weights are taken where a checkpoint has them. A head of another number of classes stays the network's
    own; whatever else does not fit is an error. Returns what a user should know of it, a sentence each. Raises
    RequestError, with nothing loaded, where the file is missing, is not one of these, or belongs to another network.
    """
    weights, averaged, file = read_weights(pretrained)
    try:
        new_head = load_weights(network, weights, new_head=True)
    except RequestError as error:
        raise RequestError(f"pretrained={pretrained}: {error}") from error
    said = [f"starting from the {'averaged ' if averaged else ''}weights of {file}"]
    if new_head:
        classes = len(network.get_parameter(f"{head_name(network)}.weight"))
        said.append(f"their classes are other than these {classes}, so the head starts anew")
    return said


def read_weights(pretrained: str) -> tuple[Mapping[str, Any], bool, Path]:
    """The weights in a file or a run's last checkpoint, whether they are an average's, and the file.

    Raises RequestError where it is missing or holds none.
    """
    file = weights_file(pretrained)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise RequestError(f"pretrained={pretrained}: {file} is no file of weights, or a damaged one") from error
    if not isinstance(content, Mapping):
        raise RequestError(f"pretrained={pretrained}: {file} holds a {type(content).__name__}; it wants a state dict")
    return (*_weights(content), file)


def _weights(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The state dict in a file's content, and whether it is an average's."""
    if "network" not in content:
        return content, False
    averaged = content.get("ema")
    if averaged is None:
        return content["network"], False
    return averaged_weights(averaged), True
