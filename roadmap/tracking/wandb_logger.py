"""Logs one run to Weights & Biases through its client. Every call may block or raise; ``AsyncLogger`` handles both.

W&B's config has the run's definition under dotted keys (``design.kernel``, ``recipe.optimizer.lr``) and the names to
group by; W&B's summary has the other fields of ``summary.json``. The client's files lie in the run's folder. Each start
of a run is a segment of the same W&B run, with the epochs that this start trained.
"""

import json
import logging
import netrc
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal
from urllib.parse import urlparse

from roadmap.errors import RequestError, first_line
from roadmap.formatting import flatten_dict
from roadmap.schema.experiment import Logger

logger = logging.getLogger(__name__)

INIT_SECONDS = {"online": 15.0, "offline": 60.0}
FINISH_SECONDS = 30.0
LEAVE_SECONDS = 5.0
TAG_LENGTH = 64  # W&B's limit
INTERRUPTED = 255  # exit code that W&B's client gives a run that Ctrl-C ended; W&B shows it as crashed or killed


def check_installed(feature: str) -> None:
    """Raise RequestError if the wandb package is missing; does not import it."""
    if find_spec("wandb") is None:
        raise RequestError(f"{feature} needs the package wandb; pip install 'convnext-roadmap[wandb]'")


def client(feature: str) -> ModuleType:
    """Return the wandb package. Raises RequestError if it is missing."""
    check_installed(feature)
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    return wandb


def wandb_host() -> str:
    """Return the host that W&B's client talks to."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_wandb_key() -> bool:
    """Return whether W&B's client finds a key: in the environment or in the netrc that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(wandb_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def leave_client() -> None:
    """End the client's process, which completes its files; kill it if it does not end in time. Raises nothing."""
    import wandb

    def leave() -> None:
        # raises SystemExit if its process ended badly
        with suppress(Exception, SystemExit):
            wandb.teardown()

    with suppress(Exception):
        # internal: the public teardown, which the client also registers at exit, waits for its process without a limit
        connection: Any = wandb.setup()._connection
        connection._cleanup()
        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            connection._proc._process.kill()
            leaving.join(LEAVE_SECONDS)


class MetricsLogger:
    """Receives each epoch's row and, once the run has ended, its summary. This one logs nothing."""

    def log(self, row: dict[str, Any]) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


class WandbRun(MetricsLogger):
    """A run at W&B whose id there is our ``run_id``."""

    offline: ClassVar[bool] = False  # a server has not answered this process

    def __init__(self, settings: Logger, summary: dict[str, Any], folder: Path):
        self.settings, self.summary, self.folder = settings, summary, folder
        self.wandb = client("logger=wandb")
        # the client's own telemetry complains on stderr about servers that do not accept it
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        mode = settings.mode or ("online" if has_wandb_key() else "offline")
        if mode == "offline" or WandbRun.offline:
            self._open("offline")
            return
        try:
            self._open("online")
        except (self.wandb.errors.Error, TimeoutError) as error:
            WandbRun.offline = True
            logger.warning(
                f"logging to wandb online failed ({first_line(error)}); logging offline: "
                f"`wandb sync` sends it from {folder / 'wandb'}"
            )
            # the client still holds the run's id
            leave_client()
            self._open("offline")

    def _open(self, mode: Literal["online", "offline"]) -> None:
        toggles = [part for part in self.summary["variant"].split(" ")[1:] if "=" in part]
        tags = [*(self.summary[key] for key in ("regime", "data", "recipe")), *toggles]
        self.run = self.wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            id=self.summary["run_id"],
            name=f"{self.summary['variant']} s{self.summary['seed']}",
            group=self.settings.group,
            job_type=self.summary["step"],
            tags=[*dict.fromkeys(tag[:TAG_LENGTH] for tag in tags)],
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
            self.run.finish(exit_code={"finished": 0, "failed": 1}.get(summary["status"], INTERRUPTED))
        except TimeoutError:
            WandbRun.offline = True
            logger.warning(f"wandb could not send all of this run; the rest is in {self.folder / 'wandb'}")
        # the client's files are complete only after its process has ended
        leave_client()


def config_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return W&B's config of a run: definition and names under dotted keys, without nested dicts.

    The definition is also there as JSON, because W&B's client sends 1 for 1.0.
    """
    names = {name: summary[name] for name in ("regime", "step", "variant")} | {"recipe.name": summary["recipe"]}
    return flatten_dict(summary["definition"]) | names | {"definition": json.dumps(summary["definition"])}


def summary_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return W&B's summary of a run: the fields of ``summary.json`` that are not in its config."""
    config = config_of(summary) | {key: summary.get(key) for key in ("design", "definition", "data", "recipe")}
    return {key: value for key, value in summary.items() if key not in config or config[key] != value}
