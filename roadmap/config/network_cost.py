"""What the network of any composed config costs: ours from its rows, every other counted by torch."""

from roadmap.config.compose import Composed
from roadmap.networks.flops import Cost, composed_flops
from roadmap.schema.baseline_model import BaselineModel


def network_cost(composed: Composed) -> Cost:
    """One image's cost at the config's image size, with the regime's number of classes."""
    if not isinstance(composed.design, BaselineModel):
        return composed_flops(composed)
    # torch, which our own designs do without
    from roadmap.config.build import design_cost

    return design_cost(composed)
