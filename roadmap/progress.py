"""How far a run is: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from typing import Any

from tqdm import tqdm

QUIET_SECONDS = 30  # between two lines of a log file


class Progress:
    """Shows one row of metrics an epoch on stderr."""

    def __init__(self, label: str, epochs: int):
        self.label, self.epochs = label, epochs
        self.spoke = time.monotonic()
        self.bar = tqdm(total=epochs, desc=label, unit="epoch", leave=False, disable=not sys.stderr.isatty())

    def start(self, epochs_done: int) -> None:
        """Begin where a checkpoint left off."""
        self.bar.update(epochs_done)
        if epochs_done and self.bar.disable:
            print(f"{self.label}: goes on after epoch {epochs_done} of {self.epochs}", file=sys.stderr, flush=True)

    def show(self, row: dict[str, Any]) -> None:
        self.bar.set_postfix_str(f"top-1 {row['top1']:.2f}, loss {row['train_loss']:.3f}", refresh=False)
        self.bar.update()
        if self.bar.disable and time.monotonic() - self.spoke > QUIET_SECONDS:
            self.spoke = time.monotonic()
            print(
                f"{self.label}: epoch {row['epoch']} of {self.epochs}, top-1 {row['top1']:.2f}, "
                f"loss {row['train_loss']:.3f}, {row['images_per_second']:.0f} images/s",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
