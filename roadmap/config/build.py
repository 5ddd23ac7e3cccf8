"""Overrides into networks: the one place where a composed config meets torch."""

import torch
from torch import nn

from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError
from roadmap.networks.flops import Cost
from roadmap.networks.measured_flops import cost
from roadmap.networks.models import make_model
from roadmap.schema.design import Design
from roadmap.schema.experiment import ImageSize
from roadmap.validation import converted


def build(*overrides: str, num_classes: int | None = None) -> nn.Module:
    """The network that the command line's grammar names: ``build("regime=tiny", "step=gelu", "kernel=k3")``.

    ``num_classes`` is the regime's (1000, or 10 in nano) unless given. Weights are drawn from torch's global random
    numbers. Raises RequestError for an unknown option or options that do not go together.
    """
    return build_network(compose(overrides), num_classes)


def build_network(composed: Composed, num_classes: int | None = None) -> nn.Module:
    """The same from a composed config."""
    classes = composed.values["regime"]["num_classes"] if num_classes is None else num_classes
    return make_model(composed.design, composed.recipe.network, classes, composed.values["image_size"])


def design_cost(composed: Composed) -> Cost:
    """What the network of a composed config costs at its image size, built without its weights and counted by torch."""
    image_size = composed.values["image_size"]
    converted(image_size, ImageSize, "image_size")
    with torch.device("meta"):
        network = build_network(composed)
    try:
        return cost(network, image_size)
    except RuntimeError as error:
        if isinstance(composed.design, Design):
            raise
        # as far as a library says it: a kernel larger than what is left of the image, positions of another size
        reason = " ".join(str(error).split())[:300]
        raise RequestError(f"{composed.design.name} cannot take image_size={image_size}: {reason}") from error
