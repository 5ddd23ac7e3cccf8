"""From a composed config to its network and the network's cost."""

from typing import TYPE_CHECKING

from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost
from roadmap.networks.rows import Cost
from roadmap.schema.design import Design

if TYPE_CHECKING:
    from torch import nn


def build(*overrides: str, num_classes: int | None = None) -> "nn.Module":
    """Return the network of some overrides, as on the command line: ``build("regime=tiny", "step=gelu")``.

    ``num_classes`` defaults to the regime's: 1000, or 10 in ``nano``. Initial weights are drawn from torch's global
    random number generator. Raises RequestError for an unknown option or options that exclude each other.
    """
    return build_network(compose(overrides), num_classes)


def build_network(composed: Composed, num_classes: int | None = None) -> "nn.Module":
    """Return the network of a composed config; ``num_classes`` as in ``build``."""
    from roadmap.networks.models import make_model

    classes = composed.regime.num_classes if num_classes is None else num_classes
    return make_model(composed.design, composed.recipe.network, classes, composed.settings.image_size)


def network_cost(composed: Composed) -> Cost:
    """Return the cost of one image at the config's image size, counted without torch if the design is our own.

    Raises RequestError if the network cannot take images of that size.
    """
    return composed.cost or measured_cost(composed)


def measured_cost(composed: Composed) -> Cost:
    """Return the same cost, counted by torch on the network built on the meta device."""
    import torch

    with torch.device("meta"):
        network = build_network(composed)
    image_size = composed.settings.image_size
    try:
        return cost(network, image_size)
    except RuntimeError as error:
        if isinstance(composed.design, Design):
            raise
        name, reason = composed.design.name, " ".join(str(error).split())[:300]
        raise RequestError(f"{name} cannot take image_size={image_size}: {reason}") from error
