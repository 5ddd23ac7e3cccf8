"""One run at Weights & Biases: opened, logged, closed. Every call may block or raise; ``loggers`` sees to that.

The client's files lie in the run's folder. Offline, each start of a run writes a segment that is the whole run so far,
and the segments before it get a name that `wandb sync` passes over, since it appends one segment's rows to another's.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from roadmap.errors import WorkError, first_line
from roadmap.records.experiment import Logger
from roadmap.tracking.background import say
from roadmap.tracking.wandb_client import client, has_wandb_key, leave_client
from roadmap.tracking.wandb_fields import config_of, summary_of
from roadmap.tracking.wandb_files import Segment, read_segment, segment_files

INIT_SECONDS, FINISH_SECONDS = 15.0, 30.0
SILENCE_SECONDS = 600.0  # after a server has not answered, runs of this process log offline for so long
TAG_LENGTH = 64  # W&B's limit
EXIT_CODES = {"finished": 0, "failed": 1}  # W&B shows others as crashed or killed
INTERRUPTED = 255  # what W&B's client gives a run that Ctrl-C ended


class WandbRun:
    """A run of ours at W&B, whose id there is our ``run_id``; ``rows`` is what it has logged before this start."""

    silent_until: ClassVar[float] = 0.0  # time.monotonic()

    def __init__(self, settings: Logger, summary: dict[str, Any], folder: Path, rows: Sequence[dict[str, Any]]):
        self.settings, self.summary, self.folder = settings, summary, folder
        self.wandb = client("logger=wandb")
        self.wandb.setup(self.wandb.Settings(silent=True))
        # the client's own telemetry complains on stderr of a server that does not take it
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        mode = settings.mode or ("online" if has_wandb_key() else "offline")
        if mode == "online" and time.monotonic() < WandbRun.silent_until:
            mode = "offline"
        try:
            self._open(mode, rows)
        except (self.wandb.errors.Error, TimeoutError) as error:
            if mode == "offline":
                raise
            WandbRun.silent_until = time.monotonic() + SILENCE_SECONDS
            say(
                f"logging to wandb online failed ({first_line(error)}); logging offline: "
                f"`wandb sync` sends it from {folder / 'wandb'}"
            )
            # the client still holds the run's id
            leave_client()
            self._open("offline", rows)

    def _open(self, mode: Literal["online", "offline"], rows: Sequence[dict[str, Any]]) -> None:
        """Begin a segment, with the rows that the server has not."""
        before = _segments(self.folder)
        self.run = self.wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            id=self.summary["run_id"],
            name=f"{self.summary['variant']} s{self.summary['seed']}",
            group=self.settings.group,
            job_type=self.summary["step"],
            tags=tags(self.summary),
            config=config_of(self.summary),
            dir=str(self.folder),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(
                silent=True,
                console="off",
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        # W&B would take the last epoch's values for the result of a run that has not ended
        self.run.define_metric("*", summary="none")
        self.run.summary.update(summary_of(self.summary))
        self.first = self.run.starting_step if mode == "online" else 1 + max(map(_sent, before), default=0)
        for row in rows:
            self.log(row)
        for segment in before:
            if segment.offline and not segment.synced and not segment.superseded:
                segment.supersede()

    def log(self, row: dict[str, Any]) -> None:
        """One epoch, unless the server has it."""
        if row["epoch"] >= self.first:
            # at once: left to itself the client keeps a row back until the next one
            self.run.log(row, step=row["epoch"], commit=True)

    def close(self, summary: dict[str, Any]) -> None:
        """The end, good or bad: the summary as it now is, and W&B's state by it."""
        # the folder's may have become unreadable
        self.run.summary.update(summary_of(self.summary | summary))
        try:
            self.run.finish(exit_code=EXIT_CODES.get(summary["status"], INTERRUPTED))
        except TimeoutError:
            WandbRun.silent_until = time.monotonic() + SILENCE_SECONDS
            say(f"wandb could not send all of this run; the rest is in {self.folder / 'wandb'}")
        # its files are whole only then
        leave_client()


def tags(summary: dict[str, Any]) -> list[str]:
    """What to find a run by: regime, data, recipe, and each toggle of its variant."""
    toggles = [part for part in summary["variant"].split(" ")[1:] if "=" in part]
    words = [summary["regime"], summary["data"], summary["recipe"], *toggles]
    return list(dict.fromkeys(word[:TAG_LENGTH] for word in words))


def _segments(folder: Path) -> list[Segment]:
    """The segments of earlier starts that can be read."""
    found = []
    for path in segment_files(folder / "wandb"):
        with suppress(WorkError):
            found.append(read_segment(path))
    return found


def _sent(segment: Segment) -> int:
    """The last epoch of a segment that the server has, as far as that can be known here; else 0."""
    return max(segment.rows, default=0) if segment.synced or not segment.offline else 0
