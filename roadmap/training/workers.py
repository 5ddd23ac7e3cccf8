"""Worker processes of one thread each that share the runs of one command."""

import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Self

from roadmap.config.compose import Composed
from roadmap.errors import RoadmapError, StoppedError, WorkError
from roadmap.runs.run_folder import finished_runs, now
from roadmap.runtime.launcher import SignalForwarder

if TYPE_CHECKING:
    from roadmap.training.many_runs import Failures, RunEnd
    from roadmap.training.recorder import Summary

logger = logging.getLogger(__name__)


@dataclass
class RunEnds:
    """What has become of the runs of a command, by their run_id."""

    total: int
    summaries: "dict[str, Summary]"
    failures: "dict[str, tuple[str, RoadmapError]]" = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    @property
    def done(self) -> int:
        """The number of finished and failed runs."""
        return len(self.summaries) + len(self.failures)

    def add(self, end: "RunEnd") -> None:
        """Note and log the end of a run, which every worker that waited for it reports."""
        if end.run_id in self.summaries or end.run_id in self.failures:
            return
        if end.summary is not None:
            self.summaries[end.run_id] = end.summary
        else:
            assert end.error is not None
            self.failures[end.run_id] = end.label, end.error
        logger.info(f"[{self.done}/{self.total}] {end}")

    def log(self, record: logging.LogRecord) -> None:
        """Log a worker's message, unless another worker has said the same."""
        if record.getMessage() not in self.said:
            self.said.add(record.getMessage())
            logging.getLogger(record.name).handle(record)


def train_in_workers(requests: Sequence[Composed], workers: int) -> "tuple[list[Summary], Failures]":
    """Train all runs as ``run_all`` does, in a ``WorkerPool`` of their own."""
    with WorkerPool(workers) as pool:
        return pool.train(requests)


class WorkerPool:
    """Up to ``workers`` processes of one thread each. They start with the first runs and end with the block.

    With several GPUs, worker ``n`` uses GPU ``n`` modulo their number.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self.stop = SignalForwarder()
        self.started: dict[Connection, BaseProcess] = {}
        self.said: set[str] = set()

    def __enter__(self) -> Self:
        self.stop.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            for connection in self.started:
                connection.close()  # which ends the worker
            for process in self.started.values():
                process.join(5)
                process.kill()
                process.join()
        finally:
            self.stop.__exit__(*error)

    def train(self, requests: Sequence[Composed]) -> "tuple[list[Summary], Failures]":
        """Train all runs as ``run_all`` does, up to ``workers`` at a time. If a worker dies, the others resume its run.

        Raises StoppedError after a signal, when every worker has written its checkpoint, and WorkError if runs are
        missing because the workers have died.
        """
        ids = [request.experiment().run_id for request in requests]
        found = finished_runs([request.experiment() for request in requests])
        ends = RunEnds(len(ids), {run_id: summary for run_id, (summary, _) in found.items()}, said=self.said)
        missing = len(ids) - len(found)
        if found and missing:
            logger.info(f"{len(found)} of {len(ids)} runs are already finished")
        error = None
        if missing and self.stop.signal is None:
            self._start(requests[0], min(self.workers, missing))
            error = self._listen(self._send(requests, missing), ends)
        if self.stop.signal is not None and ends.done < ends.total:
            raise StoppedError(self.stop.signal, "a checkpoint of each worker's run")
        if error is not None:
            raise error
        if ends.done < ends.total:
            how = ", ".join(sorted({_end(process) for process in self.started.values()}))
            raise WorkError(
                f"{ends.total - ends.done} of {ends.total} runs are missing because their worker processes "
                f"ended ({how}); the same command resumes them, with fewer workers if memory is short"
            )
        return [ends.summaries[run_id] for run_id in ids if run_id in ends.summaries], [*ends.failures.values()]

    def _start(self, first: Composed, count: int) -> None:
        """Start workers until there are ``count``."""
        # a forked process could not use CUDA
        context = multiprocessing.get_context("spawn")
        level = logging.getLogger("roadmap").getEffectiveLevel()
        for number in range(len(self.started), count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=_work, args=(first.settings.device, number, level, theirs))
            with _without_interrupts():
                process.start()
            theirs.close()
            self.started[ours] = process

    def _send(self, requests: Sequence[Composed], missing: int) -> list[Connection]:
        """Send runs to as many workers as there are runs to train; return their connections."""
        since, sent = now(), list[Connection]()
        for connection in self.started:
            if len(sent) == missing:
                break
            with suppress(OSError):  # it has died
                connection.send((requests, since))
                sent.append(connection)
        return sent

    def _listen(self, open_: list[Connection], ends: RunEnds) -> RoadmapError | None:
        """Handle what the workers report until all have done their part; return the error that ended one of them."""
        error = None
        while open_:
            for connection in wait(open_):
                assert isinstance(connection, Connection)
                try:
                    report = connection.recv()
                except (EOFError, OSError):
                    self.started[connection].join()
                    report = None
                if report is None:
                    open_.remove(connection)
                elif isinstance(report, logging.LogRecord):
                    ends.log(report)
                elif isinstance(report, RoadmapError):
                    error = error or report
                    for process in self.started.values():
                        process.terminate()
                else:
                    ends.add(report)
        return error


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a process that starts ignore Ctrl-C until it has handlers of its own; this process forwards it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: BaseProcess) -> str:
    """How a process ended, in words."""
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


class _Reports(QueueHandler):
    """Sends messages, the ends of runs and errors to the command's process; nothing if that has died."""

    def enqueue(self, record: Any) -> None:
        with suppress(OSError):
            self.queue.send(record)  # type: ignore[attr-defined]


def _work(device: str, number: int, level: int, connection: Connection) -> None:
    """One worker: of each list of runs that it receives, those that are neither finished nor another's."""
    reports = _Reports(connection)  # type: ignore[arg-type]
    package = logging.getLogger("roadmap")
    package.handlers, package.propagate = [reports], False
    package.setLevel(level)
    import torch

    from roadmap.runtime.device import share_gpus
    from roadmap.tracking.loggers import background
    from roadmap.training.many_runs import run_all

    torch.set_num_threads(1)
    share_gpus(device, number)
    try:
        # the command's process closes the connection, or dies, to end the worker
        with suppress(EOFError, OSError):
            while True:
                requests, since = connection.recv()
                run_all(requests, since=since, report=reports.enqueue)
                reports.enqueue(None)
    except StoppedError as stopped:
        sys.exit(stopped.exit_status)
    except RoadmapError as error:
        reports.enqueue(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(1)
    finally:
        background.end()
