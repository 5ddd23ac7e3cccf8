"""Several runs as branches of one process: they take turns, an update each, and share the images in memory."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

from roadmap.errors import RequestError, RoadmapError, StoppedError
from roadmap.schema.experiment import Logger

Result = TypeVar("Result")
Item = TypeVar("Item")
Summary = dict[str, Any]
Outcome = Summary | RoadmapError


def check_packed(packed: int, processes: int, logger: Logger) -> None:
    """Raise RequestError if runs cannot be branches of this process."""
    if packed > 1 and processes > 1:
        raise RequestError(
            f"packed={packed} does not go with torchrun, whose processes train one run (choose packed=1)"
        )
    if packed > 1 and logger.name == "wandb":
        raise RequestError(
            f"packed={packed} does not go with logger=wandb, whose client ends with each run (choose packed=1, or "
            "workers= for several processes)"
        )


def last_of(steps: Generator[None, None, Result]) -> Result:
    """Take all steps; return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


class Branch(Generic[Item]):
    """The steps of one run. On a GPU each has a stream of its own, so that small kernels of several runs overlap."""

    def __init__(self, job: Item, steps: Generator[None, None, Summary], device: torch.device, *, alone: bool):
        self.job, self.steps = job, steps
        self.began = time.perf_counter()
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda" and not alone:
            self.stream, self.generator = torch.cuda.Stream(device), torch.Generator(device)

    def turn(self) -> Outcome | None:
        """Take one step; return the run's summary after its last one, its error if it failed, else None."""
        with self.own_stream():
            try:
                next(self.steps)
            except StopIteration as end:
                summary: Summary = end.value
                return summary
            except RoadmapError as error:
                return error
        return None

    @contextmanager
    def own_stream(self) -> Iterator[None]:
        """Make the branch's stream and state of random numbers the GPU's current ones.

        A CUDA graph reads the state that it was recorded with when it is replayed, maybe while another branch's does.
        """
        if self.stream is None:
            yield
            return
        default = torch.cuda.default_generators[self.stream.device_index]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self.generator)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            default.graphsafe_set_state(before)


class Turns(Generic[Item]):
    """Gives turns to at most ``packed`` branches; ``begun`` is set once any of them has taken a step."""

    def __init__(self, packed: int):
        self.packed, self.begun = packed, False

    def outcomes(self, branches: Iterator[Branch[Item]]) -> Generator[tuple[Branch[Item], Outcome], None, None]:
        """Return each branch with its summary or error as it ends, and start the next one in its place.

        After a StoppedError of a branch, or of ``branches``, none is started, and it is raised once all have stopped.
        """
        active: list[Branch[Item]] = []
        stopped: StoppedError | None = None
        try:
            while True:
                try:
                    while stopped is None and len(active) < self.packed:
                        active.append(next(branches))
                except StopIteration:
                    pass
                except StoppedError as error:
                    stopped = error
                if not active:
                    break
                for branch in [*active]:
                    outcome = branch.turn()
                    if outcome is None:
                        self.begun = True
                        continue
                    active.remove(branch)
                    if isinstance(outcome, StoppedError):
                        stopped = stopped or outcome
                    else:
                        yield branch, outcome
            if stopped is not None:
                raise stopped
        finally:
            for branch in active:
                branch.steps.close()
