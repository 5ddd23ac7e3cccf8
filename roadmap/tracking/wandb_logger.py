"""Logs one run to Weights & Biases. Every call may block or raise; ``AsyncLogger`` handles both.

The client's files lie in the run's folder. Each start of a run is a segment of the same W&B run, with the epochs that
this start trained.
"""

import logging
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from roadmap.errors import first_line
from roadmap.schema.experiment import Logger
from roadmap.tracking.wandb_client import client, has_wandb_key, leave_client
from roadmap.tracking.wandb_fields import config_of, summary_of

logger = logging.getLogger(__name__)

INIT_SECONDS = {"online": 15.0, "offline": 60.0}
FINISH_SECONDS = 30.0
RETRY_SECONDS = 600.0  # after a server has not answered, this process logs offline for this long
TAG_LENGTH = 64  # W&B's limit
EXIT_CODES = {"finished": 0, "failed": 1}
INTERRUPTED = 255  # what W&B's client gives a run that Ctrl-C ended; W&B shows it as crashed or killed


class WandbRun:
    """A run at W&B whose id there is our ``run_id``."""

    offline_until: ClassVar[float] = 0.0  # time.monotonic()

    def __init__(self, settings: Logger, summary: dict[str, Any], folder: Path):
        self.settings, self.summary, self.folder = settings, summary, folder
        self.wandb = client("logger=wandb")
        self.wandb.setup(self.wandb.Settings(silent=True))
        # the client's own telemetry complains on stderr about servers that do not accept it
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        mode = settings.mode or ("online" if has_wandb_key() else "offline")
        if mode == "online" and time.monotonic() < WandbRun.offline_until:
            mode = "offline"
        try:
            self._open(mode)
        except (self.wandb.errors.Error, TimeoutError) as error:
            if mode == "offline":
                raise
            WandbRun.offline_until = time.monotonic() + RETRY_SECONDS
            logger.warning(
                f"logging to wandb online failed ({first_line(error)}); logging offline: "
                f"`wandb sync` sends it from {folder / 'wandb'}"
            )
            # the client still holds the run's id
            leave_client()
            self._open("offline")

    def _open(self, mode: Literal["online", "offline"]) -> None:
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
                init_timeout=INIT_SECONDS[mode],
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        # else W&B takes the last epoch's values for the result of a run that has not finished
        self.run.define_metric("*", summary="none")
        self.run.summary.update(summary_of(self.summary))

    def log(self, row: dict[str, Any]) -> None:
        """Log one epoch, unless the server already has it."""
        if row["epoch"] >= self.run.starting_step:
            # without commit the client holds a row back until the next one
            self.run.log(row, step=row["epoch"], commit=True)

    def close(self, summary: dict[str, Any]) -> None:
        """Log the final summary and end the run with the matching W&B state."""
        # the folder's summary may have become unreadable
        self.run.summary.update(summary_of(self.summary | summary))
        try:
            self.run.finish(exit_code=EXIT_CODES.get(summary["status"], INTERRUPTED))
        except TimeoutError:
            WandbRun.offline_until = time.monotonic() + RETRY_SECONDS
            logger.warning(f"wandb could not send all of this run; the rest is in {self.folder / 'wandb'}")
        # the client's files are complete only after its process has ended
        leave_client()


def tags(summary: dict[str, Any]) -> list[str]:
    """Return a run's tags: regime, data, recipe, and each toggle of its variant."""
    toggles = [part for part in summary["variant"].split(" ")[1:] if "=" in part]
    words = [summary["regime"], summary["data"], summary["recipe"], *toggles]
    return list(dict.fromkeys(word[:TAG_LENGTH] for word in words))
