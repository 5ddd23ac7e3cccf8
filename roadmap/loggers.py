"""Where metrics go besides the run's folder, which stays the truth."""

import sys
from pathlib import Path
from typing import Any, Protocol

from roadmap.errors import RequestError
from roadmap.experiment import Experiment


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
    """Weights & Biases; the run's id there is ours, so that a resumed run goes on in the same place."""

    def __init__(self, experiment: Experiment, folder: Path):
        try:
            import wandb
        except ImportError as error:
            raise RequestError("logger=wandb needs the package wandb; pip install 'roadmap[wandb]'") from error
        settings = experiment.logger
        self.run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            id=experiment.run_id,
            name=f"{experiment.variant} s{experiment.seed}",
            group=f"{experiment.regime}-{experiment.data.name}",
            job_type=experiment.step,
            config=experiment.definition,
            dir=str(folder),
            mode=settings.mode or ("online" if wandb.api.api_key else "offline"),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True),
        )

    def log(self, row: dict[str, Any]) -> None:
        self.run.log(row, step=row["epoch"])

    def close(self, summary: dict[str, Any]) -> None:
        self.run.summary.update({key: summary[key] for key in ("top1", "top5", "best_top1", "gmacs", "params_m")})
        self.run.finish()


def open_logger(experiment: Experiment, folder: Path) -> MetricsLogger:
    """The logger that a run asks for. One that does not start is named on stderr and done without."""
    if experiment.logger.name == "local":
        return NoLogger()
    try:
        return WandbLogger(experiment, folder)
    except RequestError:
        raise
    # whatever a remote service comes up with must not stop training
    except Exception as error:
        print(f"wandb does not start ({error}); going on with the run's own files", file=sys.stderr)
        return NoLogger()
