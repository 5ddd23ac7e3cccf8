"""Networks in turn on one device: each fitted into its memory alone, then measured round by round among the others."""

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
    alternate,
    free,
    inference_step,
    random_images,
    synchronise,
    training_step,
    with_room,
)
from roadmap.errors import WorkError
from roadmap.runtime.device import is_out_of_memory, tf32

Mode = Literal["inference", "training", "latency"]
Say = Callable[[str], None]
KEPT_SHARE = 0.5  # of the device's memory, for networks that wait for their turn
# bytes a parameter: its value in fp32, and in training its gradient and AdamW's two moments
BYTES = {"inference": 4, "latency": 4, "training": 16}


@dataclass
class Turn:
    """One network in one mode. ``fit`` comes first; ``take`` is a turn of it."""

    make: Callable[[], nn.Module]
    params: int
    mode: Mode
    image_size: int
    precision: str
    channels_last: bool
    compiled: bool
    batch: int  # as asked for; after `fit` what there is room for
    device: torch.device
    clock: Clock
    calls: int = 1  # of the step, in one turn
    memory_gb: float | None = None
    error: str | None = None
    _step: Step | None = field(default=None, repr=False)

    def fit(self, seconds: float) -> None:
        """Find the batch, the memory it takes, and how many steps last ``seconds``; what goes wrong is ``error``."""
        try:
            (self.memory_gb, took), self.batch = with_room(self._alone, self.batch, self.device)
        # a bench goes on: whatever torch, a library or a compiler comes up with is this row's finding
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            known = isinstance(error, RuntimeError) and is_out_of_memory(error)
            self.error = "out of memory for one image" if known else f"{type(error).__name__}: {first}"
        else:
            self.calls = max(1, math.ceil(seconds / took)) if took > 0 else 1
        free(self.device)

    def settle(self) -> None:
        """One step that nobody measures: what a process allocates once, at its first, is in no network's peak."""
        # `fit` says what is wrong with it
        with suppress(Exception):
            self._built(min(self.batch, 2))()

    def _alone(self, batch: int) -> tuple[float | None, float]:
        with peak_memory(self.device) as peak:
            step = self._built(batch)
            # the first one allocates the optimizer's moments, and compiles
            self.clock(step)
            took = self.clock(step)
        compiler = self.compiled and self.device.type == "cpu"  # whose memory is in the process's
        return None if compiler else peak.gb, took

    def _built(self, batch: int) -> Step:
        images = random_images(batch, self.image_size, self.device, channels_last=self.channels_last)
        make = training_step if self.mode == "training" else inference_step
        return make(self.make(), images, self.precision, compiled=self.compiled)

    def take(self, *, kept: bool, warmup: int) -> float:
        """Seconds of a step, the mean over ``calls`` of them; built before, and taken away after unless ``kept``."""
        if self._step is None:
            self._step = self._built(self.batch)
            for _ in range(warmup):
                self._step()
        took = self.clock(partial(self._burst, self._step)) / self.calls
        if not kept:
            self.leave()
        return took

    def _burst(self, step: Step) -> None:
        for _ in range(self.calls):
            step()
            # an answer is waited for; of a batch the next is given to the device meanwhile
            if self.mode == "latency":
                synchronise(self.device)

    def leave(self) -> None:
        """Give back what the network holds."""
        self._step = None
        free(self.device)


def take_turns(turns: Mapping[str, Turn], settings: BenchSettings, say: Say) -> dict[str, dict[str, Any]]:
    """What one mode comes to for each network, as the record has it: ``Turn``'s numbers and ``seconds`` of each round.

    Raises WorkError where a batch that had room alone has none in its turn.
    """
    device = next(iter(turns.values())).device
    compiled = any(turn.compiled for turn in turns.values())
    with tf32(True), compiled_versions() if compiled else nullcontext():
        if not compiled:
            next(iter(turns.values())).settle()
        for number, (name, turn) in enumerate(turns.items(), 1):
            turn.fit(settings.seconds)
            say(f"[{number}/{len(turns)}] {turn.mode} of {name}: {turn.error or _found(turn)}")
        fitting = {name: turn for name, turn in turns.items() if turn.error is None}
        kept = all_stay(fitting, total_memory(device))
        networks = f"{len(fitting)} network{'s' * (len(fitting) != 1)}"
        say(f"{settings.repeats} rounds of {networks}{'' if kept else ', each built anew for its turn'}")
        takes = {name: partial(turn.take, kept=kept, warmup=settings.warmup) for name, turn in fitting.items()}
        try:
            seconds = alternate(takes, 0, settings.repeats)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise WorkError(
                f"{device} ran out of memory in the rounds though each network had room before; "
                "is another program using it? choose a smaller batch_size"
            ) from error
        finally:
            for turn in fitting.values():
                turn.leave()
    return {name: _outcome(turn, seconds.get(name, [])) for name, turn in turns.items()}


def _found(turn: Turn) -> str:
    memory = "" if turn.memory_gb is None else f", {turn.memory_gb:.2f} GiB"
    return f"batch {turn.batch}{memory}, {turn.calls} step{'s' * (turn.calls > 1)} a turn"


def _outcome(turn: Turn, seconds: list[float]) -> dict[str, Any]:
    if turn.error is not None:
        return {"error": turn.error}
    return {"batch": turn.batch, "calls": turn.calls, "peak_memory_gb": turn.memory_gb, "seconds": seconds}


def all_stay(turns: Mapping[str, Turn], memory: int) -> bool:
    """Whether all networks fit into ``memory`` bytes together while one of them works; else each is built anew."""
    waiting = sum(turn.params * BYTES[turn.mode] for turn in turns.values())
    working = max((turn.memory_gb or 0.0 for turn in turns.values()), default=0.0) * 2**30
    return waiting + working <= KEPT_SHARE * memory


def compiled_versions() -> AbstractContextManager[None]:
    """Let torch.compile keep code for many networks of one class, and say so rather than run uncompiled where not."""
    import torch._dynamo

    return torch._dynamo.config.patch(
        recompile_limit=1000, accumulated_recompile_limit=10000, fail_on_recompile_limit_hit=True
    )
