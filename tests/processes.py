"""Runs a function in several processes with torchrun's environment, by fork: faster than torchrun itself."""

import logging
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence

TIMEOUT = 600  # seconds


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _one(rank: int, size: int, port: int, work: Callable[[], None]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    from roadmap.console import console
    from roadmap.errors import RoadmapError

    try:
        with console(logging.INFO):
            work()
    except RoadmapError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except BaseException:
        traceback.print_exc()
        sys.exit(100)


def in_processes(size: int, work: Callable[[], None]) -> list[int]:
    """Run ``work`` in ``size`` processes that join each other; return their exit statuses."""
    context = multiprocessing.get_context("fork")
    port = free_port()
    processes = [context.Process(target=_one, args=(rank, size, port, work)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        process.kill()  # a process that hangs must not outlive its test
        process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


def train_in(size: int, overrides: Sequence[str]) -> list[int]:
    """Train in ``size`` processes; return their exit statuses."""

    def train() -> None:
        from roadmap.config.compose import compose
        from roadmap.training.run import run_experiment

        run_experiment(compose(overrides))

    return in_processes(size, train)
