"""A regime: the pair of networks at the ends of the road, as far as more than a design's axes is read of it."""

from typing import Any, ClassVar

from roadmap.validation import PositiveInt, Record


class Regime(Record):
    """``baseline`` and ``result`` are what figures call the ends; ``image_size`` is a side in pixels.

    ``size`` is what recipes choose their rates by. ``depths`` and ``widths`` are by the option of their axis.
    """

    place: ClassVar[str] = "regime"

    name: str
    baseline: str
    result: str
    size: str
    image_size: PositiveInt
    num_classes: PositiveInt
    depths: dict[str, Any]
    widths: dict[str, Any]
