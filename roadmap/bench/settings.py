"""The settings of ``roadmap bench``: the node ``bench`` of the config."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import NonNegativeFloat, PositiveInt, Record


class BenchSettings(Record):
    """Modes, warm-up and repeats; the defaults are in ``conf/config.yaml``."""

    place: ClassVar[str] = "bench"

    measure: tuple[Literal["inference", "training", "latency"], ...]
    batch_size: PositiveInt
    warmup: PositiveInt  # untimed steps of each network
    repeats: Annotated[int, Meta(ge=2)]  # rounds; each times every network once
    seconds: NonNegativeFloat  # minimum duration of one timing, which may be several steps
    only: tuple[str, ...] | None  # names of steps or rows; None: all
    reference: str | None  # the network that relative speeds refer to; None: the first

    def __post_init__(self) -> None:
        if not self.measure:
            raise RequestError("bench.measure must not be empty; for counts only, use device=meta")
