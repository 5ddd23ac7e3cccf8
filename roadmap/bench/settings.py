"""What ``roadmap bench`` measures, and how often: the node ``bench`` of the config."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import NonNegativeFloat, PositiveInt, Record


class BenchSettings(Record):
    """Defaults are in ``conf/config.yaml``. Raises RequestError for numbers that measure nothing."""

    place: ClassVar[str] = "bench"

    measure: tuple[Literal["inference", "training", "latency"], ...]
    batch_size: PositiveInt
    warmup: PositiveInt  # steps of a network that nobody counts
    repeats: Annotated[int, Meta(ge=2)]  # rounds, in each of which every network has its turn
    seconds: NonNegativeFloat  # that a turn lasts at least: of a fast network it is several steps
    only: tuple[str, ...] | None  # names of steps or rows; None: all
    reference: str | None  # which of them relative speeds are to; None: the first

    def __post_init__(self) -> None:
        if not self.measure:
            raise RequestError("bench.measure=[] measures nothing; device=meta has counts alone")
