"""Records of a run's files: ``summary.json`` and the lines of ``metrics.jsonl``."""

from typing import Any, Literal

import msgspec

from roadmap.validation import FileRecord, Int64

Status = Literal["finished", "running", "failed", "interrupted"]


class Summary(FileRecord):
    """``summary.json``; docs/runs.md describes the fields, not all of which older versions wrote."""

    run_id: str
    status: Status
    regime: str | None = None
    step: str | None = None
    variant: str | None = None
    design: dict[str, Any] | None = None
    seed: Int64 | None = None
    data: str | None = None
    recipe: str | None = None
    epochs: Int64 | None = None
    batch_size: Int64 | None = None
    image_size: Int64 | None = None
    precision: str | None = None
    train_images: Int64 | None = None
    val_images: Int64 | None = None
    gmacs: float | None = None
    params_m: float | None = None
    activations_m: float | None = None
    top1: float | None = None
    top5: float | None = None
    best_top1: float | None = None
    evaluated_epochs: Int64 | None = None  # over which best_top1 is the best
    train_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_gb: float | None = None
    device: str | None = None
    device_name: str | None = None
    threads: Int64 | None = None
    batch_norm_images: Int64 | None = None
    git_commit: str | None = None
    versions: dict[str, Any] | None = None
    started: str | None = None
    ended: str | None = None
    error: str | None = None
    definition: dict[str, Any] | None = None
    schema: Int64 = 1


NUMBERS = tuple(field.name for field in msgspec.structs.fields(Summary) if field.type in (Int64 | None, float | None))


class EpochRow(FileRecord):
    """One line of ``metrics.jsonl``: accuracies in percent, times in seconds."""

    epoch: Int64
    train_loss: float | None = None
    lr: float | None = None
    top1: float | None = None
    top5: float | None = None
    val_loss: float | None = None
    ema_top1: float | None = None
    images_per_second: float | None = None
    data_wait: float | None = None
    train_seconds: float | None = None
    seconds: float | None = None
