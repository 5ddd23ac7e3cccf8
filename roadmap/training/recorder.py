"""Records one run: its summary and metrics, in its folder and in its logger."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from roadmap.errors import PrunedError, RoadmapError, StoppedError, WorkError, first_line
from roadmap.networks.batch_norm import has_batch_norm
from roadmap.networks.flops import cost
from roadmap.runs.run_folder import RunFolder, now
from roadmap.runtime.device import hardware, peak_memory_gb, within_memory
from roadmap.runtime.progress import ProgressBar
from roadmap.schema.experiment import Experiment, Logger
from roadmap.tracking.loggers import MetricsLogger, open_logger
from roadmap.training.trainer import Record, Trainer
from roadmap.validation import SCHEMA
from roadmap.versions import git_commit, package_versions

Summary = dict[str, Any]


class Recorder:
    """Writes a run's summary and metrics; other processes than the main one only call ``abort``, which does nothing."""

    def __init__(self, folder: RunFolder, progress: ProgressBar, is_main: bool, packed: int):
        self.folder, self.progress, self.is_main, self.packed = folder, progress, is_main, packed
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
        """Record a finished epoch, and how many runs the process trained at a time."""
        row = row if self.packed == 1 else row | {"packed": self.packed}
        self.rows.append(row)
        self.folder.append_metrics(row)
        self.logger.log(row)
        self.progress.show(row)

    def finish(self, results: Record) -> Summary:
        """Write the final summary and return it."""
        summary = self.folder.update_summary(**results)
        self.logger.close(summary)
        return summary

    def abort(self, status: str, error: str | None = None) -> None:
        """Write that the run was interrupted or failed, if possible: the error being raised matters more."""
        if not self.is_main:
            return
        summary = (self.folder.read_summary() or {}) | {"status": status, "ended": now(), "error": error}
        with suppress(WorkError):
            self.folder.write_summary(summary)
        self.logger.close(summary)


@contextmanager
def recorded_errors(recorder: Recorder) -> Iterator[None]:
    """Record how a run ended if it did not finish. Raises an unexpected error as a WorkError."""
    try:
        with within_memory("choose a smaller micro_batch_size"):
            yield
    except (KeyboardInterrupt, GeneratorExit):
        recorder.abort("interrupted")
        raise
    except RoadmapError as error:
        recorder.abort("interrupted" if isinstance(error, StoppedError | PrunedError) else "failed", str(error))
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}"
        recorder.abort("failed", message)
        raise WorkError(message) from error


def initial_summary(experiment: Experiment, trainer: Trainer) -> Summary:
    """Return the summary of a run that starts or resumes."""
    loaders, device, network = trainer.loaders, trainer.device, trainer.parts.network
    share, network_cost = loaders.train.share, cost(network, experiment.image_size)
    same_name = ("run_id", "regime", "step", "variant", "seed", "pretrained", "epochs", "batch_size", "image_size")
    results = ("top1", "top5", "best_top1", "evaluated_epochs", "train_seconds", "images_per_second", "peak_memory_gb")
    return {
        "schema": SCHEMA,
        "status": "running",
        **{name: getattr(experiment, name) for name in (*same_name, "precision", "definition")},
        "design": experiment.design.to_dict(),
        "data": experiment.data.name,
        "recipe": experiment.recipe.name,
        "micro_batch_size": share.micro_batch_size,
        "accumulation": share.accumulation,
        "processes": share.processes,
        "batch_norm_images": experiment.batch_norm_images if has_batch_norm(network) else None,
        "train_images": loaders.train_images,
        "val_images": loaders.val_images,
        "num_classes": loaders.num_classes,
        "gmacs": network_cost.gmacs,
        "params_m": network_cost.params_m,
        "activations_m": network_cost.activations / 1e6,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "device_name": hardware(device),
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "versions": package_versions(),
        "started": now(),
        **dict.fromkeys((*results, "ended", "error")),
    }


def final_results(rows: list[Record], trainer: Trainer) -> Record:
    """Return the results of a finished run, from the rows of all its epochs; accuracies are the last epoch's."""
    last, evaluated = rows[-1], [row["top1"] for row in rows if "top1" in row]
    packed = max(row.get("packed", 1) for row in rows)
    trained = sum(row["train_seconds"] for row in rows)
    return {
        "status": "finished",
        **{name: last[name] for name in ("top1", "top5", "ema_top1") if name in last},
        "best_top1": max(evaluated),
        "evaluated_epochs": len(evaluated),
        "train_seconds": sum(row["seconds"] for row in rows),
        "packed": packed,
        # speed and memory of several runs are not those of one
        "images_per_second": trainer.loaders.train.images * len(rows) / trained if packed == 1 else None,
        "data_wait": sum(row["data_wait"] * row["train_seconds"] for row in rows) / trained,
        "peak_memory_gb": peak_memory_gb(trainer.device) if packed == 1 else None,
        "skipped_updates": trainer.losses.skipped,
        "corrupt_images": len(trainer.loaders.corrupt.found),
        "corrupt_files": sorted(trainer.loaders.corrupt.found),
        "ended": now(),
        "error": None,
    }
