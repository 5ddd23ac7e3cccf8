"""Designs at equal cost: the width or the depth of a design that brings it nearest to so many GMACs."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.networks.flops import count_flops
from roadmap.schema.design import Design
from roadmap.validation import Record

TOLERANCE = 0.1  # of the cost that is asked for
Scale = Literal["width", "depth"]


class Matching(Record):
    """The config's ``match_gmacs`` and ``match_by``; without the first, designs are taken as they are."""

    match_gmacs: Annotated[float, Meta(gt=0, le=1_000_000)] | None
    match_by: Scale


def matched(design: Design, gmacs: float, by: Scale, image_size: int, num_classes: int) -> Design:
    """The design with the width, or the number of blocks in the third stage, whose cost is nearest to ``gmacs`` (×10⁹).

    The third stage's is the depth that tells the paper's sizes apart. Any whole number from 1 is tried, whatever the
    design has; of two as near the smaller is taken. Raises RequestError where none comes within a tenth.
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
            f"match_gmacs={gmacs:g} is not to be had within 10 %: {costs} GMACs; "
            f"choose another match_gmacs or match_by={other}"
        )
    return scaled(nearest)


def scale(design: Design, by: Scale, value: int) -> Design:
    """The design with another width, or with so many blocks in its third stage."""
    first, second, _, last = design.depths
    return design.replace(width=value) if by == "width" else design.replace(depths=(first, second, value, last))


def _first_from(gmacs: float, cost: Callable[[int], float]) -> int:
    """The first whole number from 1 that costs at least so much; each costs more than the one before."""
    most = 1
    while cost(most) < gmacs:
        most *= 2
    return 1 + bisect_left(range(1, most), gmacs, key=cost)
