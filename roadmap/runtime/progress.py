"""Shows a run's progress: a bar in a terminal, occasional messages elsewhere."""

import logging
import sys
import time
from multiprocessing import parent_process
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

QUIET_SECONDS = 30  # between two messages


class ProgressBar:
    """Shows a run's progress in epochs on stderr."""

    def __init__(self, label: str, epochs: int, *, shown: bool = True):
        self.label, self.epochs = label, epochs
        self.logged_at = time.monotonic()
        terminal = sys.stderr.isatty() and parent_process() is None  # the bars of several workers would overlap
        in_bar = shown and terminal and logger.isEnabledFor(logging.WARNING)
        self.in_lines = shown and not terminal
        bar_format = "{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(total=epochs, desc=label, leave=False, disable=not in_bar, bar_format=bar_format)

    def start(self, epochs_done: int, updates_done: int) -> None:
        self.bar.update(epochs_done)
        if self.in_lines and (epochs_done or updates_done):
            within = f", update {updates_done} of the next" if updates_done else ""
            logger.info(f"{self.label}: resuming from epoch {epochs_done}/{self.epochs}{within}")

    def on_step(self, epochs_done: int, update: int, updates: int) -> None:
        self.bar.update(epochs_done + update / updates - self.bar.n)
        if time.monotonic() - self.logged_at > QUIET_SECONDS:
            self._log(f"epoch {epochs_done + 1} of {self.epochs}, update {update} of {updates}")

    def show(self, row: dict[str, Any]) -> None:
        top1 = f"top-1 {row['top1']:.2f}, " if "top1" in row else ""
        results = f"{top1}loss {row['train_loss']:.3f}"
        self.bar.set_postfix_str(results, refresh=False)
        self.bar.update(row["epoch"] - self.bar.n)
        self._log(
            f"epoch {row['epoch']} of {self.epochs}, {results}, "
            f"{row['images_per_second']:.0f} images/s, {row['data_wait']:.0%} of the time waiting for data"
        )

    def _log(self, text: str) -> None:
        """Log a message, at level DEBUG if the last one was a short time ago."""
        due = time.monotonic() - self.logged_at > QUIET_SECONDS
        if due:
            self.logged_at = time.monotonic()
        if self.in_lines:
            logger.log(logging.INFO if due else logging.DEBUG, f"{self.label}: {text}")

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
