"""What ``roadmap bench`` measures, and how often: the node ``bench`` of the config."""

from dataclasses import dataclass
from typing import Literal

from roadmap.checked import Checked
from roadmap.errors import RequestError


@dataclass(frozen=True)
class BenchSettings(Checked):
    """Defaults are in ``conf/config.yaml``. Raises RequestError for numbers that measure nothing."""

    place = "bench"

    measure: tuple[Literal["inference", "training", "latency"], ...]
    batch_size: int
    warmup: int  # steps of a network that nobody counts
    repeats: int  # rounds, in each of which every network has its turn
    seconds: float  # that a turn lasts at least: of a fast network it is several steps
    only: tuple[str, ...] | None  # names of steps or rows; None: all
    reference: str | None  # which of them relative speeds are to; None: the first

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("batch_size", 1), ("warmup", 1), ("repeats", 2)):
            if getattr(self, key) < least:
                raise RequestError(f"bench.{key}={getattr(self, key)} is out of range; it wants at least {least}")
        if self.seconds < 0:
            raise RequestError(f"bench.seconds={self.seconds} is out of range; it wants at least 0")
        if not self.measure:
            raise RequestError("bench.measure=[] measures nothing; device=meta has counts alone")
