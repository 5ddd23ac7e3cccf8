"""Checkpoints: everything a resume needs, written whole or not at all, loaded with ``weights_only=True``."""

import logging
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from roadmap.errors import WorkError

logger = logging.getLogger(__name__)

# what torch's reader comes up with on files that are cut or have other bits
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, struct.error, pickle.UnpicklingError),
)


def averaged_weights(ema: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint has of an average, under the names of the network that was averaged."""
    return {name.removeprefix("module."): tensor for name, tensor in ema.items() if name != "n_averaged"}


class Checkpoints:
    """``last.pt``, the one before it in ``previous.pt``, and ``best.pt`` of one run."""

    def __init__(self, folder: Path, run_id: str):
        self.last, self.previous, self.best = (folder / f"{name}.pt" for name in ("last", "previous", "best"))
        self.run_id = run_id

    def save(self, state: Mapping[str, Any], best: bool) -> None:
        """Make ``state`` the last checkpoint, and the best one too if it is: another name for the same file.

        Raises WorkError where it cannot be written; the checkpoints there are stay as they are.
        """
        partial = self.last.with_name(f".last.pt.{os.getpid()}")
        try:
            # on the disk before it takes its name: a machine that loses power must not leave an empty last.pt
            with open(partial, "wb") as file:
                torch.save(dict(state) | {"run_id": self.run_id}, file)
                file.flush()
                os.fsync(file.fileno())
            if self.last.exists():
                self.last.replace(self.previous)
            partial.replace(self.last)
            logger.debug(f"wrote checkpoint {self.last}")
            if best:
                link = self.best.with_name(f".best.pt.{os.getpid()}")
                link.unlink(missing_ok=True)
                os.link(self.last, link)
                link.replace(self.best)
        # torch's writer raises RuntimeError for a disk that is full
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:120]
            raise WorkError(
                f"cannot write checkpoint {self.last}: {reason}; the one before is intact: "
                "make room and start the same command again"
            ) from error

    def mend(self) -> None:
        """Before a run goes on: remove what a kill left half written, and a damaged ``last.pt`` if there is another.

        Of several processes the first alone does this. Raises WorkError where no checkpoint can be read.
        """
        for partial in self.last.parent.glob(".*.pt.*"):
            partial.unlink(missing_ok=True)
        for file in (self.last, self.previous):
            if not file.exists():
                continue
            try:
                self._read(file, torch.device("cpu"))
            except DAMAGED as error:
                reason = " ".join(str(error).split())[:120]
                broken, why = file, error
                logger.warning(f"checkpoint {file} cannot be read ({reason}); continuing from the one before")
                continue
            if file is self.previous:
                self.previous.replace(self.last)
            return
        if self.last.exists() or self.previous.exists():
            raise WorkError(f"cannot read checkpoint {broken}; delete it to train this run anew") from why

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first. Raises WorkError for a file that is not this run's."""
        if not self.last.exists():
            return None
        try:
            state = self._read(self.last, device)
        except DAMAGED as error:
            raise WorkError(f"cannot read checkpoint {self.last}; delete it to train this run anew") from error
        if state.get("run_id") != self.run_id:
            raise WorkError(f"checkpoint {self.last} belongs to run {state.get('run_id')}, not {self.run_id}")
        return state

    @staticmethod
    def _read(file: Path, device: torch.device) -> dict[str, Any]:
        return torch.load(file, map_location=device, weights_only=True)
