"""A launcher's job: in the folder of the command, its tasks one run's processes, a warning of its end handed on."""

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
    """Run a launcher's job in the folder where the command was given, for relative paths, logging from ``level`` on.

    In a submitit job, tasks find the variables that torchrun would set, before anything reads them. A StoppedError
    raised by the signal that submitit listens to is passed on to submitit, which requeues the job and ends the process;
    with the requeues of ``max_num_timeout`` used up it raises its own error. Raises WorkError if the machine has no
    such folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        machine = socket.gethostname()
        raise WorkError(
            f"{machine} cannot work in {folder}: {error.strerror}; start from a folder that all machines share"
        ) from error
    job = _submitted()
    with console(level):
        try:
            yield
        except StoppedError as stopped:
            if stopped.by == SIGHUP:
                # who would take this worker's answer is gone, and joblib's processes would wait for it for ever
                os._exit(stopped.exit_status)
            if job is not None and job.global_rank == 0:
                logger.warning(stopped)
            if job is not None and stopped.by.name == f"SIG{job.USR_SIG}":
                _hand_on(stopped.by, job.global_rank)
            raise


def _submitted() -> "JobEnvironment | None":
    """The job of submitit's that this process is a task of, its variables set; None outside of one."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    job = JobEnvironment()
    if job.num_tasks > 1:
        # each process chooses among all GPUs of its machine by LOCAL_RANK, as under torchrun
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return job


def _hand_on(by: signal.Signals, task: int) -> None:
    """Call submitit's handler of a signal, which the trainer had put off until its checkpoint was written.

    All tasks have stopped by then. The first requeues the job; the others' handler only says so, and they end here:
    a result of theirs would tell submitit that they are done.
    """
    handler = signal.getsignal(by)
    if callable(handler):
        # one that comes late, as to a task that learned of it from another
        signal.signal(by, signal.SIG_IGN)
        handler(by, None)
    if task:
        sys.exit(0)
