"""Starts the workers of a sweep with Hydra's launchers: forwards signals to them, translates launchers' errors."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from signal import SIGINT, SIGTERM, raise_signal, signal
from subprocess import CalledProcessError
from types import FrameType
from typing import Any

from roadmap.config import config_dir
from roadmap.config.compose import searchpath
from roadmap.config.hydra_errors import hydra_errors
from roadmap.console import console_level
from roadmap.errors import RequestError, StoppedError, WorkError
from roadmap.runs.run_folder import now
from roadmap.runtime.launcher_job import scheduled
from roadmap.runtime.stopping import StopRequest

logger = logging.getLogger(__name__)


class SignalForwarder(StopRequest):
    """Forwards signals to the worker processes of this process while entered.

    Without workers (jobs that run in this process, or wait in a queue) the previous handler is called.
    """

    def note(self, number: int, frame: FrameType | None) -> None:
        workers = [worker.pid for worker in active_children() if worker.pid is not None]
        if not workers:
            signal(number, self.before[number])  # type: ignore[index]
            raise_signal(number)
            return
        super().note(number, frame)
        logger.warning("stopping; each worker writes a checkpoint first")
        for worker in workers:
            # the terminal sent Ctrl-C to the workers too, and a second SIGINT would stop them without a checkpoint
            os.kill(worker, SIGTERM if number == SIGINT else number)


def launch(
    work: Callable[[int, str], None], overrides: Sequence[str], config_dirs: Sequence[str], workers: int
) -> None:
    """Start ``work(worker, since)`` as the jobs of Hydra's launcher, and wait for them; ``since`` is now."""
    import hydra

    since, here, level = now(), os.getcwd(), console_level()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: Any) -> None:
        with scheduled(here, level):
            work(config.worker, since)

    numbers = f"worker={','.join(map(str, range(workers)))}"
    # otherwise Hydra prints errors itself and always exits with 1
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["roadmap sweep", "--multirun", *overrides, *searchpath(config_dirs), numbers]
    with hydra_errors(overrides), launching():
        job()


@contextmanager
def launching() -> Iterator[None]:
    """Run a launcher, which starts jobs and waits for them, in this block.

    Raises StoppedError after a signal, once the workers have ended, and WorkError if the launcher cannot start a worker
    or loses one.
    """
    try:
        with SignalForwarder() as request:
            yield
    except KeyboardInterrupt:
        if "submitit" in sys.modules:
            logger.warning("queued and running jobs continue; `scancel --name=roadmap` ends them")
        raise
    except Exception as error:
        if request.signal is None:
            raise _translated(error) from error
    if request.signal is not None:
        raise StoppedError(request.signal, "a checkpoint of each worker's run")


def check_gpus(launcher: Mapping[str, Any]) -> None:
    """Raise RequestError if Ray would wait forever for GPUs that this machine does not have."""
    ray = launcher.get("ray", {})
    wanted = ray.get("remote", {}).get("num_gpus") or 0
    if wanted and ray.get("init", {}).get("address") == "local":
        import torch

        count = torch.cuda.device_count()
        if wanted > count:
            raise RequestError(
                f"hydra.launcher.ray.remote.num_gpus={wanted} is too high: this machine has {count} GPUs; "
                "with num_gpus=0 Ray's workers use CPUs"
            )


def _translated(error: Exception) -> Exception:
    """Return a WorkError for an error of a launcher, any other error as it is."""
    package = type(error).__module__.partition(".")[0]
    # submitit's error if there is no srun
    no_slurm = isinstance(error, RuntimeError) and "slurm cluster" in str(error)
    if package not in ("joblib", "ray", "submitit") and not isinstance(error, CalledProcessError) and not no_slurm:
        return error
    text = " ".join(str(error).split()).partition(". ")[0][:300]
    return WorkError(f"the launcher failed: {type(error).__name__}: {text}; the same command resumes")
