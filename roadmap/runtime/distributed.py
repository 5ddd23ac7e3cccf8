"""The processes of one run, started by torchrun: joining them, and agreeing on errors and flags."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from roadmap.errors import RequestError, RoadmapError, WorkError, first_line

Agreement = Callable[[], list[bool]]

TIMEOUT = timedelta(minutes=30)  # of one process waiting for another, which may be writing or indexing data


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. With a single process no method communicates."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only process that writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; return it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return one small object per process, in the order of ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def first_set(self, value: Any) -> Any:
        """Return the first value that is not None, in the order of ranks; None if all are."""
        return next((one for one in self.gather(value) if one is not None), None)

    def broadcast(self, value: Any) -> Any:
        """Return the main process's object."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def any_rank(self, *flags: bool, error: RoadmapError | None = None) -> list[bool]:
        """Return, for each flag, whether it is set in any process. An ``error`` of one process is raised in all."""
        return self.post(*flags, error=error)()

    def post(self, *flags: bool, error: RoadmapError | None = None) -> Agreement:
        """Start what ``any_rank`` does; return a function that waits for the other processes and finishes it."""
        work = None
        if self.size > 1:
            values = torch.tensor([error is not None, *flags], dtype=torch.uint8)
            work = dist.all_reduce(values, dist.ReduceOp.MAX, async_op=True)

        def answer() -> list[bool]:
            if work is None:
                if error is not None:
                    raise error
                return list(flags)
            work.wait()
            failed, *found = values.bool().tolist()
            if failed:
                first = self.first_set(error)
                first.on_all_ranks = True
                raise first from error
            return found

        return answer

    @contextmanager
    def collective_errors(self) -> Iterator[None]:
        """Raise an error of one process in all of them, at the end of the block; every process must enter it."""
        error = None
        try:
            yield
        except RoadmapError as caught:
            error = caught
        self.any_rank(error=error)


SINGLE_PROCESS = World()


def world_from_env() -> World:
    """Return the rank and world size that torchrun set for this process, whether or not it has joined the others."""
    return World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def local_device(device: torch.device) -> torch.device:
    """Return this process's own GPU among those of its machine. Raises RequestError if there are too few."""
    if world_from_env().size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise RequestError(f"device={device} cannot be used with several processes (choose auto, cuda or cpu)")
    rank, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if rank >= count:
        raise RequestError(
            f"local rank {rank} has no GPU: this machine has {count}; start at most {count} processes with "
            "torchrun --nproc-per-node"
        )
    return torch.device("cuda", rank)


def init_processes(device: torch.device) -> World:
    """Join the other processes of the run, once; CPU tensors use gloo, GPU tensors NCCL.

    Raises WorkError if the processes do not find each other.
    """
    world = world_from_env()
    if world.size > 1 and not dist.is_initialized():
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=_rendezvous(),
                rank=world.rank,
                world_size=world.size,
                timeout=TIMEOUT,
                device_id=device if on_gpu else None,
            )
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise WorkError(
                f"rank {world.rank} of {world.size} cannot join the other processes at {address}: "
                f"{first_line(error)[:120]}; start all of them with torchrun, on machines that can reach that address"
            ) from error
        atexit.register(dist.destroy_process_group)
    return world


def _rendezvous() -> dist.Store:
    """Return the store in which the processes find each other's addresses.

    On one machine torchrun keeps its store across restarts, with the addresses of dead processes in it, so each restart
    gets a prefix of its own. Several machines count restarts differently, but get a new store each time.
    """
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    return dist.PrefixStore(f"start {restart}", store) if one_machine else store


def data_parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Return the network with gradients that are averaged over processes, none of which changes a buffer alone."""
    # torch before 2.13 has the second one
    names, known = ("forward_sync_buffers", "broadcast_buffers"), signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {next(name for name in names if name in known): False}
    return DistributedDataParallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **options,
    )


@contextmanager
def lost_process_errors() -> Iterator[None]:
    """Turn the error that a collective raises when another process has died into a WorkError."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        text = str(error)
        signs = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Socket", "remote process")
        if isinstance(error, RoadmapError) or not any(sign in text for sign in signs):
            raise
        raise WorkError(
            f"another process of this run has ended ({first_line(error)[:120]}); "
            "start the run again to resume from its last checkpoint"
        ) from error
