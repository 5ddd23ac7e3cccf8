"""Interleaved timing: each network is fitted into memory alone, then all are timed once per round."""

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from roadmap.bench.models import BenchSettings
from roadmap.config.build import build_network
from roadmap.config.compose import Composed
from roadmap.errors import WorkError
from roadmap.networks.network import carry_out
from roadmap.runtime.device import (
    autocast,
    compiled,
    is_out_of_memory,
    measure_algorithms,
    peak_memory_gb,
    process_memory_gb,
    reset_peak_memory,
    tf32,
)

logger = logging.getLogger(__name__)

Mode = Literal["inference", "training", "latency"]
Step = Callable[[], object]
Found = TypeVar("Found")
RESIDENT_SHARE = 0.5  # of the device's memory for networks that are kept between rounds


def make_step(composed: Composed, mode: Mode, batch: int, device: torch.device) -> Step:
    """Return a step on random images: a forward pass without gradients, or in training forward, backward and update.

    The step does not wait for a GPU.
    """
    settings, training = composed.settings, mode == "training"
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    images = torch.randn(batch, 3, settings.image_size, settings.image_size, device=device).to(memory_format=layout)
    network: nn.Module = build_network(composed).to(device, memory_format=layout).train(training)  # type: ignore[call-overload]
    carry_out(network, settings.checkpoint_stages, settings.pointwise_linear)
    forward = compiled(network, alone=False) if settings.compile is True else network
    context = autocast(device, settings.precision)

    @torch.inference_mode()
    def inference() -> None:
        with context():
            forward(images)

    if not training:
        return inference
    # a learning rate of 0 keeps the weights, so that values never become denormal
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    def update() -> None:
        with context():
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


class NetworkTimer:
    """One network in one mode: ``fit`` it into memory, then ``measure``."""

    def __init__(self, composed: Composed, mode: Mode, batch: int, device: torch.device):
        self.composed, self.mode, self.device = composed, mode, device
        self.batch = batch  # as requested; after `fit`, as fits into memory
        self.calls = 1  # of the step in one measurement
        self.memory_gb: float | None = None
        self.error: str | None = None
        self._step: Step | None = None

    def fit(self, seconds: float) -> None:
        """Find the batch size, peak memory and number of steps that last ``seconds``; on failure set ``error``."""
        try:
            (took, self.memory_gb), self.batch = fit_batch(self._alone, self.batch, self.device)
        # any error of torch, a library or a compiler is recorded, and the bench continues
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            self.error = (
                "out of memory for one image" if is_out_of_memory(error) else f"{type(error).__name__}: {first}"
            )
        else:
            self.calls = max(1, math.ceil(seconds / took))
        free(self.device)

    def _alone(self, batch: int) -> tuple[float, float | None]:
        def work() -> float:
            step = self.built(batch)
            # the first step allocates the optimizer's state and compiles
            step()
            return clock(step, self.device)

        took, memory = peak_memory(work, self.device)
        compiler = (
            self.composed.settings.compile is True and self.device.type == "cpu"
        )  # its memory is part of the process's
        return took, None if compiler else memory

    def built(self, batch: int) -> Step:
        return make_step(self.composed, self.mode, batch, self.device)

    def measure(self, *, resident: bool, warmup: int) -> float:
        """Return the mean seconds per step over ``calls`` steps; release the network afterwards unless ``resident``."""
        if self._step is None:
            self._step = self.built(self.batch)
            for _ in range(warmup):
                self._step()

        def burst(step: Step) -> None:
            for _ in range(self.calls):
                step()
                # latency waits for each result; throughput queues the next step
                if self.mode == "latency":
                    synchronise(self.device)

        took = clock(partial(burst, self._step), self.device) / self.calls
        if not resident:
            self.release()
        return took

    def release(self) -> None:
        self._step = None
        free(self.device)


def time_interleaved(timers: Mapping[str, NetworkTimer], settings: BenchSettings) -> dict[str, dict[str, Any]]:
    """Return each network's outcome in one mode: batch, calls, peak memory and ``seconds`` per round, or an error.

    Raises WorkError if a network runs out of memory that it had when measured alone.
    """
    first = next(iter(timers.values()))
    measure_algorithms(first.device)
    compiling = any(timer.composed.settings.compile is True for timer in timers.values())
    with tf32(True):
        if not compiling:
            # one untimed step, so that one-time allocations do not count for the first network; `fit` reports errors
            with suppress(Exception):
                first.built(1)()
        for number, (name, timer) in enumerate(timers.items(), 1):
            timer.fit(settings.seconds)
            memory = "" if timer.memory_gb is None else f", {timer.memory_gb:.2f} GiB"
            found = timer.error or f"batch {timer.batch}{memory}, steps per round: {timer.calls}"
            logger.info(f"[{number}/{len(timers)}] {timer.mode} of {name}: {found}")
        fitting = {name: timer for name, timer in timers.items() if timer.error is None}
        needed = sum(timer.memory_gb or 0.0 for timer in fitting.values()) * 2**30
        resident = needed <= RESIDENT_SHARE * total_memory(first.device)
        logger.info(f"{settings.repeats} rounds{'' if resident else ', each network rebuilt for every round'}")
        try:
            measures = {
                name: partial(timer.measure, resident=resident, warmup=settings.warmup)
                for name, timer in fitting.items()
            }
            seconds = interleave(measures, settings.repeats)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise WorkError(
                f"{first.device} ran out of memory in the rounds though each network had room before; "
                "is another program using it? choose a smaller batch_size"
            ) from error
        finally:
            for timer in fitting.values():
                timer.release()
    return {
        name: {"batch": timer.batch, "calls": timer.calls, "peak_memory_gb": timer.memory_gb, "seconds": seconds[name]}
        if timer.error is None
        else {"error": timer.error}
        for name, timer in timers.items()
    }


def interleave(functions: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Return the results of ``repeats`` rounds, each of which calls all ``functions`` once, in alternating order."""
    results: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(repeats):
        for name in list(functions) if number % 2 else list(functions)[::-1]:
            results[name].append(functions[name]())
    return results


def fit_batch(attempt: Callable[[int], Found], batch: int, device: torch.device) -> tuple[Found, int]:
    """Halve the batch until ``attempt`` does not run out of memory; return its result and the batch size.

    Raises the device's out-of-memory error if a single image is too large.
    """
    while True:
        # not in the except block, where the error still refers to the networks
        free(device)
        try:
            return attempt(batch), batch
        except RuntimeError as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        batch //= 2


def clock(step: Step, device: torch.device) -> float:
    """Return the seconds of a step, until the device has finished it."""
    synchronise(device)
    began = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_memory(work: Callable[[], Found], device: torch.device) -> tuple[Found, float | None]:
    """Return the result of ``work`` and its peak memory in GiB beyond what was allocated before; None if unknown.

    On NVIDIA GPUs this is memory of torch's allocator. On a CPU under Linux it is the process's resident memory,
    including scratch memory of libraries.
    """
    if not reset_peak_memory(device):
        return work(), None
    before = torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else process_memory_gb("VmRSS")
    assert before is not None
    return work(), peak_memory_gb(device) - before


def total_memory(device: torch.device) -> int:
    """Return the device's memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
