"""The processes of one run: torchrun starts them; here they join, and agree on what must be the same in all."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from roadmap.errors import RequestError, RoadmapError, WorkError, first_line

TIMEOUT = timedelta(minutes=30)  # for one process to wait for another: the first may be writing or indexing data


@dataclass(frozen=True)
class World:
    """This process among those of its run; alone, every method is free."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor on the CPU; in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """One small object of each process, in the order of ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def any_of(self, value: Any) -> Any:
        """Of the processes' values the first that is not None; None where all are."""
        return next((one for one in self.gather(value) if one is not None), None)

    def from_first(self, value: Any) -> Any:
        """The first process's object."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers: BN's running statistics are those of its share of the images."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def agree(self, error: RoadmapError | None, *flags: bool) -> list[bool]:
        """Whether any process raised each flag. Where one has met an error, all raise it here, at the same place."""
        if self.size == 1:
            if error is not None:
                raise error
            return list(flags)
        raised = torch.tensor([error is not None, *flags], dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        failed, *agreed = raised.bool().tolist()
        if failed:
            met = next(error for error in self.gather(error) if error is not None)
            met.everywhere = True
            raise met from error
        return agreed

    @contextmanager
    def together(self) -> Iterator[None]:
        """A part that every process goes through: an error of one of them is raised by all at its end."""
        error = None
        try:
            yield
        except RoadmapError as met:
            error = met
        self.agree(error)


ALONE = World()


def launched() -> World:
    """What torchrun says of this process, whether joined already or not."""
    return World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def local_device(device: torch.device) -> torch.device:
    """This process's own device of several on its machine. Raises RequestError where they are too few."""
    if launched().size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise RequestError(f"device={device} does not go with several processes; choose auto, cuda or cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local >= torch.cuda.device_count():
        raise RequestError(
            f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
            "start as many processes with torchrun --nproc-per-node"
        )
    return torch.device("cuda", local)


def join(device: torch.device) -> World:
    """Join the other processes, once; CPU tensors travel by gloo, a GPU's by NCCL. Alone there is nothing to join.

    Raises WorkError where they do not find each other.
    """
    world = launched()
    if world.size > 1 and not dist.is_initialized():
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        own = device if on_gpu else None
        try:
            store = _meeting_place()
            dist.init_process_group(
                backend, store=store, rank=world.rank, world_size=world.size, timeout=TIMEOUT, device_id=own
            )
        except (RuntimeError, ValueError) as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise WorkError(
                f"process {world.rank} cannot join the others, {world.size} in all, at {place}: "
                f"{first_line(error)[:120]}; start all of them with torchrun, on machines that reach that address"
            ) from error
        atexit.register(dist.destroy_process_group)
    return world


def _meeting_place() -> dist.Store:
    """Where processes find each other's addresses, as torchrun says.

    On one machine torchrun keeps the same place when it starts processes again, with the addresses of the dead in it:
    each start gets a part of its own. Several machines count their starts differently, but meet anew each time.
    """
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store) if alone else store


@contextmanager
def loss_of_a_process() -> Iterator[None]:
    """Say in one sentence that another process is gone, whatever the collective that noticed it says."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        text = str(error)
        signs = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Socket", "remote process")
        if isinstance(error, RoadmapError) or not any(sign in text for sign in signs):
            raise
        raise WorkError(
            "another process of this run has ended, so this one cannot go on; started again, "
            f"the run goes on from its last checkpoint ({first_line(error)[:120]})"
        ) from error
