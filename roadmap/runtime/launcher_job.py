"""Runs a launcher's job: working directory, processes of a submitit job, signals of a time limit."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGHUP
from typing import TYPE_CHECKING

from roadmap.console import console
from roadmap.errors import StoppedError, WorkError

if TYPE_CHECKING:
    from submitit import JobEnvironment

logger = logging.getLogger(__name__)


@contextmanager
def scheduled(folder: str, level: int | None = None) -> Iterator[None]:
    """Run a launcher's job in the folder of the command, so that relative paths hold, with log level ``level``.

    In a submitit job the environment variables of torchrun are set. A StoppedError raised by submitit's signal is
    passed on to submitit, which requeues the job and ends the process, or raises its own error after
    ``max_num_timeout`` requeues. Raises WorkError if this machine has no such folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        machine = socket.gethostname()
        raise WorkError(
            f"{machine} cannot use the folder {folder}: {error.strerror}; start from a folder that all machines share"
        ) from error
    job = _submitit_job()
    with console(level):
        try:
            yield
        except StoppedError as stopped:
            if stopped.by == SIGHUP:
                # the main program is gone: joblib's worker would wait for it forever
                os._exit(stopped.exit_status)
            if job is not None and job.global_rank == 0:
                logger.warning(stopped)
            if job is not None and stopped.by.name == f"SIG{job.USR_SIG}":
                _call_submitit_handler(stopped.by, job.global_rank)
            raise


def _submitit_job() -> "JobEnvironment | None":
    """Return this process's submitit job, or None; set the variables of torchrun if the job has several tasks."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    job = JobEnvironment()
    if job.num_tasks > 1:
        # as with torchrun, each process sees all GPUs and chooses one by LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return job


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
