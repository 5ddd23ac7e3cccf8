"""Records one run: its summary and metrics, in its folder and in its logger."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from roadmap.errors import PrunedError, RoadmapError, StoppedError, WorkError, first_line
from roadmap.runs.run_folder import RunFolder, now
from roadmap.runtime.device import is_out_of_memory
from roadmap.runtime.distributed import World
from roadmap.runtime.progress import ProgressBar
from roadmap.schema.experiment import Logger
from roadmap.tracking.loggers import MetricsLogger, open_logger
from roadmap.training.evaluator import Record
from roadmap.training.summary import Summary


class Recorder:
    """Writes a run's summary and metrics; used in the main process only."""

    def __init__(self, folder: RunFolder, progress: ProgressBar):
        self.folder, self.progress = folder, progress
        self.rows: list[Record] = []  # one per finished epoch
        self.logger = MetricsLogger()

    def start(self, summary: Summary) -> None:
        """Write the initial summary; a resumed run keeps the time of its first start."""
        before = self.folder.read_summary() or {}
        self.summary = summary | {"started": before.get("started") or summary["started"]}
        self.folder.write_summary(self.summary)

    def resume(self, epochs: int, settings: Logger) -> None:
        """Keep the rows of the first ``epochs`` epochs, and open the logger."""
        self.rows = self.folder.keep_metrics(epochs)
        self.logger = open_logger(settings, self.summary, self.folder.path)

    def record(self, row: Record) -> None:
        """Record a finished epoch."""
        self.rows.append(row)
        self.folder.append_metrics(row)
        self.logger.log(row)
        self.progress.show(row)

    def finish(self, results: Record) -> Summary:
        """Write the final summary and return it."""
        summary = self.folder.update_summary(**results)
        self.logger.close(summary)
        return summary

    def abort(self, status: str, **changes: Any) -> None:
        """Write that the run was interrupted or failed, if possible: the error being raised matters more."""
        summary = (self.folder.read_summary() or {}) | {"status": status, "ended": now()} | changes
        with suppress(WorkError):
            self.folder.write_summary(summary)
        self.logger.close(summary)


@contextmanager
def recorded_errors(recorder: Recorder, world: World) -> Iterator[None]:
    """Record how a run ended if it did not finish. Raises an unexpected error as a WorkError."""

    def abort(status: str, **changes: Any) -> None:
        if world.is_main:
            recorder.abort(status, **changes)

    try:
        yield
    except (KeyboardInterrupt, StoppedError):
        abort("interrupted")
        raise
    except PrunedError as pruned:
        abort("interrupted", error=str(pruned))
        raise
    except RoadmapError as error:
        abort("failed", error=str(error))
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}"
        if is_out_of_memory(error):
            message = "the device ran out of memory; choose a smaller micro_batch_size"
        abort("failed", error=message)
        raise WorkError(message) from error
