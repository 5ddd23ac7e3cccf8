"""What the network of any composed config costs: ours from its rows, every other counted by torch."""

from roadmap.config.compose import Composed
from roadmap.designs.counting import Count, count_composed
from roadmap.records.rival import Rival


def spent(composed: Composed) -> Count:
    """One image's cost at the config's image size, with the regime's number of classes."""
    if not isinstance(composed.design, Rival):
        return count_composed(composed)
    # torch, which our own designs do without
    from roadmap.networks.builder import design_cost

    return design_cost(composed)
