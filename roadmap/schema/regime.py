"""The record of a regime: the two networks at the ends of a roadmap."""

from typing import Any, ClassVar

from roadmap.validation import PositiveInt, Record


class Regime(Record):
    """``baseline`` and ``result`` name the two ends in figures; ``image_size`` is in pixels.

    Recipes look up size-dependent rates by ``size``. ``depths`` and ``widths`` map the options of their axes to values.
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
