"""A run in several processes without torchrun's start-up: forked, with the environment that torchrun would give."""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Sequence


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _one(rank: int, size: int, port: int, overrides: Sequence[str]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    from roadmap.config.compose import compose
    from roadmap.errors import RoadmapError
    from roadmap.training.execute import execute

    try:
        execute(compose(overrides))
    except RoadmapError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except BaseException:
        traceback.print_exc()
        sys.exit(100)


def train_in(size: int, overrides: Sequence[str]) -> list[int]:
    """Train in ``size`` processes; their exit statuses."""
    context = multiprocessing.get_context("fork")
    port = free_port()
    processes = [context.Process(target=_one, args=(rank, size, port, overrides)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]
