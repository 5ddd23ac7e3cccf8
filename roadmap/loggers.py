"""Where metrics go besides the run's folder, which stays the truth."""

import netrc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlparse

from roadmap.errors import RequestError
from roadmap.experiment import Experiment

INIT_SECONDS, FINISH_SECONDS = 30.0, 60.0


class MetricsLogger(Protocol):
    """Takes each epoch's row and, at the end, the summary."""

    def log(self, row: dict[str, Any]) -> None: ...

    def close(self, summary: dict[str, Any]) -> None: ...


class NoLogger:
    """The run's folder alone."""

    def log(self, row: dict[str, Any]) -> None:
        pass

    def close(self, summary: dict[str, Any]) -> None:
        pass


class WandbLogger:
    """Weights & Biases; the run's id there is ours, so that a resumed run goes on in the same place.

    Its client sends in the background and keeps what it cannot send, in the run's folder. A server that does not
    answer costs the run ``INIT_SECONDS`` at its start, after which it logs offline, or ``FINISH_SECONDS`` at its end.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        try:
            import wandb
        except ImportError as error:
            raise RequestError("logger=wandb needs the package wandb; pip install 'roadmap[wandb]'") from error
        self.wandb, self.experiment, self.folder = wandb, experiment, folder
        mode = experiment.logger.mode or ("online" if has_wandb_key() else "offline")
        try:
            self.run = self._open(mode)
        except wandb.errors.Error as error:
            if mode == "offline":
                raise
            reason = str(error).splitlines()[0]
            _say(f"wandb does not answer ({reason}); logging offline: `wandb sync` sends it from {folder / 'wandb'}")
            # the client still holds the run's id
            wandb.teardown()
            self.run = self._open("offline")

    def _open(self, mode: Literal["online", "offline"]) -> Any:
        experiment = self.experiment
        return self.wandb.init(
            project=experiment.logger.project,
            entity=experiment.logger.entity,
            id=experiment.run_id,
            name=f"{experiment.variant} s{experiment.seed}",
            group=f"{experiment.regime}-{experiment.data.name}",
            job_type=experiment.step,
            config=experiment.definition,
            dir=str(self.folder),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(silent=True, init_timeout=INIT_SECONDS),
        )

    def log(self, row: dict[str, Any]) -> None:
        self.run.log(row, step=row["epoch"])

    def close(self, summary: dict[str, Any]) -> None:
        self.run.summary.update({key: summary[key] for key in ("top1", "top5", "best_top1", "gmacs", "params_m")})
        sending = threading.Thread(target=self._finish, daemon=True)
        sending.start()
        sending.join(FINISH_SECONDS)
        if sending.is_alive():
            _say(f"wandb could not send all of this run; `wandb sync` sends the rest from {self.folder / 'wandb'}")
            self.wandb.teardown()

    def _finish(self) -> None:
        # torn down by close, where it takes too long
        with suppress(Exception):
            self.run.finish()


def wandb_host() -> str:
    """The server that W&B's client talks to."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_wandb_key() -> bool:
    """Whether there is a key where W&B's client looks for one: the environment, and what `wandb login` wrote."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(wandb_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Guarded:
    """Another logger, done without once it fails: whatever a service comes up with must not stop training."""

    def __init__(self, logger: MetricsLogger):
        self.logger = logger

    def log(self, row: dict[str, Any]) -> None:
        self._try(lambda: self.logger.log(row))

    def close(self, summary: dict[str, Any]) -> None:
        self._try(lambda: self.logger.close(summary))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            _say(f"logging failed ({error}); going on with the run's own files")
            self.logger = NoLogger()


def open_logger(experiment: Experiment, folder: Path) -> MetricsLogger:
    """The logger that a run asks for. One that does not start is named on stderr and done without."""
    if experiment.logger.name == "local":
        return NoLogger()
    try:
        return Guarded(WandbLogger(experiment, folder))
    except RequestError:
        raise
    # whatever a remote service comes up with must not stop training
    except Exception as error:
        _say(f"wandb does not start ({error}); going on with the run's own files")
        return NoLogger()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
