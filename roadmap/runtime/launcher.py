"""Hydra's launchers: starting the workers of a sweep, and running a launcher's job in one of them."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType
from typing import Any

from roadmap.config import config_dir
from roadmap.config.hydra_errors import hydra_errors
from roadmap.config.overrides import searchpath
from roadmap.console import console, console_level
from roadmap.errors import StoppedError, WorkError
from roadmap.runs.run_folder import now
from roadmap.runtime.stopping import StopRequest

logger = logging.getLogger(__name__)


class SignalForwarder(StopRequest):
    """Forwards signals to the worker processes of this process while entered.

    Without workers (jobs that run in this process, or wait in a queue) the previous handler is called.
    """

    def note(self, number: int, frame: FrameType | None) -> None:
        workers = [worker.pid for worker in active_children() if worker.pid is not None]
        if not workers:
            signal.signal(number, self.before[number])  # type: ignore[index]
            signal.raise_signal(number)
            return
        super().note(number, frame)
        logger.warning("stopping; each worker writes a checkpoint first")
        for worker in workers:
            # the terminal sent Ctrl-C to the workers too, and a second SIGINT would stop them without a checkpoint
            os.kill(worker, signal.SIGTERM if number == signal.SIGINT else number)


def launch(
    work: Callable[[int, str], None], overrides: Sequence[str], config_dirs: Sequence[str], workers: int
) -> None:
    """Start ``work(worker, since)`` as the jobs of Hydra's launcher, and wait for them; ``since`` is now.

    Raises StoppedError after a signal, once the workers have ended, and WorkError if the launcher cannot start a worker
    or loses one.
    """
    import hydra

    since, here, level = now(), os.getcwd(), console_level()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: Any) -> None:
        with launcher_job(here, level):
            work(config.worker, since)

    numbers = f"worker={','.join(map(str, range(workers)))}"
    # otherwise Hydra prints errors itself and always exits with 1
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["roadmap sweep", "--multirun", *overrides, *searchpath(config_dirs), numbers]
    try:
        with hydra_errors(overrides, config_dirs), SignalForwarder() as request:
            job()
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        # a RuntimeError is submitit's if there is no srun
        of_launcher = package in ("joblib", "ray", "submitit", "subprocess") or "slurm cluster" in str(error)
        if request.signal is None and of_launcher:
            text = " ".join(str(error).split()).partition(". ")[0][:300]
            raise WorkError(f"the launcher failed: {type(error).__name__}: {text}; the same command resumes") from error
        if request.signal is None:
            raise
    if request.signal is not None:
        raise StoppedError(request.signal, "a checkpoint of each worker's run")


@contextmanager
def launcher_job(folder: str, level: int | None = None) -> Iterator[None]:
    """Run a launcher's job in the folder of the command, so that relative paths hold, with log level ``level``.

    In a submitit job the environment variables of torchrun are set. A StoppedError raised by submitit's signal is
    passed on to submitit, which requeues the job and ends the process, or raises its own error after
    ``max_num_timeout`` requeues. Raises WorkError if this machine has no such folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise WorkError(
            f"{socket.gethostname()} cannot use the folder {folder}: {error.strerror}; start from a folder that all "
            "machines share"
        ) from error
    job = None
    if "SUBMITIT_EXECUTOR" in os.environ:
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        job = JobEnvironment()
        if job.num_tasks > 1:
            # as with torchrun, each process sees all GPUs and chooses one by LOCAL_RANK
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    with console(level):
        try:
            yield
        except StoppedError as stopped:
            if stopped.by == signal.SIGHUP:
                # the main program is gone: joblib's worker would wait for it forever
                os._exit(stopped.exit_status)
            if job is not None and job.global_rank == 0:
                logger.warning(stopped)
            if job is not None and stopped.by.name == f"SIG{job.USR_SIG}":
                _call_submitit_handler(stopped.by, job.global_rank)
            raise


def _call_submitit_handler(by: signal.Signals, task: int) -> None:
    """Call submitit's handler of a signal, after the checkpoint is written.

    All tasks have stopped by then. The first task's handler requeues the job; the other tasks exit here, because
    submitit takes a returned result for the end of the job.
    """
    handler = signal.getsignal(by)
    if callable(handler):
        # the signal may still come, to a task that learned of it from another
        signal.signal(by, signal.SIG_IGN)
        handler(by, None)
    if task:
        sys.exit(0)
