"""A regime: the pair of networks at the ends of the road, as far as more than a design's axes is read of it."""

from dataclasses import dataclass

from roadmap.checked import Checked


@dataclass(frozen=True)
class Regime(Checked):
    """``baseline`` and ``result`` are what figures call the ends; ``image_size`` is a side in pixels.

    ``size`` is what recipes choose their rates by. ``depths`` and ``widths`` are by the option of their axis.
    """

    place = "regime"

    name: str
    baseline: str
    result: str
    size: str
    image_size: int
    num_classes: int
    depths: dict
    widths: dict
