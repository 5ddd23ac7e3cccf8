"""Designs of equal cost: scaling the width or depth of a design to a number of GMACs."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Literal

from roadmap.errors import RequestError
from roadmap.networks.flops import count_flops
from roadmap.schema.design import Design

TOLERANCE = 0.1  # relative to the requested cost
Scale = Literal["width", "depth"]


def matched(design: Design, gmacs: float, by: Scale, image_size: int, num_classes: int) -> Design:
    """Return the design scaled by width, or by the blocks in stage 3, to the cost nearest to ``gmacs`` (×10⁹).

    Stage 3 is where the paper's larger networks are deeper. Any integer from 1 on is considered; ties go to the
    smaller. Raises RequestError if none comes within 10 %.
    """

    def scaled(value: int) -> Design:
        return scale(design, by, value)

    def cost(value: int) -> float:
        return count_flops(scaled(value), image_size, num_classes, layer_scale=False).gmacs

    above = _first_from(gmacs, cost)
    tried = {value: cost(value) for value in (above - 1, above) if value}
    nearest = min(tried, key=lambda value: abs(tried[value] - gmacs))
    if abs(tried[nearest] - gmacs) > TOLERANCE * gmacs:
        what, other = ("width", "depth") if by == "width" else ("third-stage depth", "width")
        costs = " and ".join(f"{what} {value} costs {spent:.4g}" for value, spent in tried.items())
        raise RequestError(
            f"match_gmacs={gmacs:g} cannot be matched within 10 %: {costs} GMACs; "
            f"choose another match_gmacs or match_by={other}"
        )
    return scaled(nearest)


def scale(design: Design, by: Scale, value: int) -> Design:
    """Return the design with another width or number of blocks in its third stage."""
    first, second, _, last = design.depths
    return design.replace(width=value) if by == "width" else design.replace(depths=(first, second, value, last))


def _first_from(gmacs: float, cost: Callable[[int], float]) -> int:
    """Return the smallest integer from 1 on that costs at least ``gmacs``; the cost increases with it."""
    most = 1
    while cost(most) < gmacs:
        most *= 2
    return 1 + bisect_left(range(1, most), gmacs, key=cost)
