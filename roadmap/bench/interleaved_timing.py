"""Interleaved timing: each network is fitted into memory alone, then all are timed once per round."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from roadmap.bench.memory import peak_memory, total_memory
from roadmap.bench.settings import BenchSettings
from roadmap.bench.timing import (
    Clock,
    Step,
    fit_batch,
    free,
    inference_step,
    interleave,
    random_images,
    synchronise,
    training_step,
)
from roadmap.errors import WorkError
from roadmap.runtime.device import is_out_of_memory, tf32

Mode = Literal["inference", "training", "latency"]
Log = Callable[[str], None]
RESIDENT_SHARE = 0.5  # of the device's memory for networks that are kept between rounds
# bytes per parameter: fp32 value, and in training its gradient and AdamW's two moments
BYTES = {"inference": 4, "latency": 4, "training": 16}


@dataclass
class NetworkTimer:
    """One network in one mode. ``fit`` comes first; ``take`` is a timer of it."""

    make: Callable[[], nn.Module]
    params: int
    mode: Mode
    image_size: int
    precision: str
    channels_last: bool
    compiled: bool
    batch: int  # as requested; after `fit`, as fits into memory
    device: torch.device
    clock: Clock
    calls: int = 1  # of the step in one measurement
    memory_gb: float | None = None
    error: str | None = None
    _step: Step | None = field(default=None, repr=False)

    def fit(self, seconds: float) -> None:
        """Find the batch size, peak memory and number of steps that last ``seconds``; on failure set ``error``."""
        try:
            (self.memory_gb, took), self.batch = fit_batch(self._alone, self.batch, self.device)
        # any error of torch, a library or a compiler is recorded, and the bench continues
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            known = isinstance(error, RuntimeError) and is_out_of_memory(error)
            self.error = "out of memory for one image" if known else f"{type(error).__name__}: {first}"
        else:
            self.calls = max(1, math.ceil(seconds / took)) if took > 0 else 1
        free(self.device)

    def initialise(self) -> None:
        """Run one untimed step, so that one-time allocations are not part of a network's peak memory."""
        # `fit` reports errors
        with suppress(Exception):
            self._built(min(self.batch, 2))()

    def _alone(self, batch: int) -> tuple[float | None, float]:
        with peak_memory(self.device) as peak:
            step = self._built(batch)
            # the first step allocates the optimizer's state and compiles
            self.clock(step)
            took = self.clock(step)
        compiler = self.compiled and self.device.type == "cpu"  # its memory is part of the process's
        return None if compiler else peak.gb, took

    def _built(self, batch: int) -> Step:
        images = random_images(batch, self.image_size, self.device, channels_last=self.channels_last)
        make = training_step if self.mode == "training" else inference_step
        return make(self.make(), images, self.precision, compiled=self.compiled)

    def measure(self, *, resident: bool, warmup: int) -> float:
        """Mean seconds per step over ``calls`` steps; the network is released afterwards unless ``resident``."""
        if self._step is None:
            self._step = self._built(self.batch)
            for _ in range(warmup):
                self._step()
        took = self.clock(partial(self._burst, self._step)) / self.calls
        if not resident:
            self.release()
        return took

    def _burst(self, step: Step) -> None:
        for _ in range(self.calls):
            step()
            # latency waits for each result; throughput queues the next step
            if self.mode == "latency":
                synchronise(self.device)

    def release(self) -> None:
        """Free the network's memory."""
        self._step = None
        free(self.device)


def time_interleaved(
    timers: Mapping[str, NetworkTimer], settings: BenchSettings, log: Log
) -> dict[str, dict[str, Any]]:
    """Each network's outcome in one mode: batch, calls, peak memory and the ``seconds`` of each round, or an error.

    Raises WorkError if a network runs out of memory that it had when measured alone.
    """
    device = next(iter(timers.values())).device
    compiled = any(timer.compiled for timer in timers.values())
    with tf32(True), compiled_versions() if compiled else nullcontext():
        if not compiled:
            next(iter(timers.values())).initialise()
        for number, (name, timer) in enumerate(timers.items(), 1):
            timer.fit(settings.seconds)
            log(f"[{number}/{len(timers)}] {timer.mode} of {name}: {timer.error or _found(timer)}")
        fitting = {name: timer for name, timer in timers.items() if timer.error is None}
        resident = all_fit(fitting, total_memory(device))
        networks = f"{len(fitting)} network{'s' * (len(fitting) != 1)}"
        log(f"{settings.repeats} rounds of {networks}{'' if resident else ', each rebuilt for every round'}")
        functions = {
            name: partial(timer.measure, resident=resident, warmup=settings.warmup) for name, timer in fitting.items()
        }
        try:
            seconds = interleave(functions, 0, settings.repeats)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise WorkError(
                f"{device} ran out of memory in the rounds though each network had room before; "
                "is another program using it? choose a smaller batch_size"
            ) from error
        finally:
            for timer in fitting.values():
                timer.release()
    return {name: _outcome(timer, seconds.get(name, [])) for name, timer in timers.items()}


def _found(timer: NetworkTimer) -> str:
    memory = "" if timer.memory_gb is None else f", {timer.memory_gb:.2f} GiB"
    return f"batch {timer.batch}{memory}, {timer.calls} step{'s' * (timer.calls > 1)} a round"


def _outcome(timer: NetworkTimer, seconds: list[float]) -> dict[str, Any]:
    if timer.error is not None:
        return {"error": timer.error}
    return {"batch": timer.batch, "calls": timer.calls, "peak_memory_gb": timer.memory_gb, "seconds": seconds}


def all_fit(timers: Mapping[str, NetworkTimer], memory: int) -> bool:
    """Whether all networks fit into ``memory`` bytes while one of them runs."""
    waiting = sum(timer.params * BYTES[timer.mode] for timer in timers.values())
    working = max((timer.memory_gb or 0.0 for timer in timers.values()), default=0.0) * 2**30
    return waiting + working <= RESIDENT_SHARE * memory


def compiled_versions() -> AbstractContextManager[None]:
    """Let torch.compile keep code for many networks of one class, and raise an error rather than run uncompiled."""
    import torch._dynamo

    return torch._dynamo.config.patch(
        recompile_limit=1000, accumulated_recompile_limit=10000, fail_on_recompile_limit_hit=True
    )
