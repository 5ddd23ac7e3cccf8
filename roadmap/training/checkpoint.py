"""Checkpoints: written whole or not at all, loaded with ``weights_only=True``."""

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

# what torch.load raises for truncated or corrupted files
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, struct.error, pickle.UnpicklingError),
)


def averaged_weights(ema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights in an EMA's state dict, under the names of the network."""
    return {name.removeprefix("module."): tensor for name, tensor in ema.items() if name != "n_averaged"}


class Checkpoints:
    """The checkpoints of one run: ``last.pt``, the one before it (``previous.pt``) and ``best.pt``."""

    def __init__(self, folder: Path, run_id: str):
        self.last, self.previous, self.best = (folder / f"{name}.pt" for name in ("last", "previous", "best"))
        self.run_id = run_id

    def save(self, state: Mapping[str, Any], best: bool) -> None:
        """Write ``state`` to ``last.pt`` and, if it is the ``best``, make ``best.pt`` a hard link to the same file.

        Raises WorkError if it cannot be written; the existing checkpoints then stay as they are.
        """
        partial = self.last.with_name(f".last.pt.{os.getpid()}")
        try:
            # fsync before the rename: a power failure must not leave an empty last.pt
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
        # torch.save raises RuntimeError if the disk is full
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise WorkError(
                f"cannot write checkpoint {self.last}: {_reason(error)}; the previous one is intact: "
                "free some disk space and start the same command again"
            ) from error

    def repair(self) -> None:
        """Delete half-written files, and replace an unreadable ``last.pt`` by ``previous.pt``.

        Only the main process calls this, before a run resumes. Raises WorkError if no checkpoint can be read.
        """
        for partial in self.last.parent.glob(".*.pt.*"):
            partial.unlink(missing_ok=True)
        unreadable = None
        for file in filter(Path.exists, (self.last, self.previous)):
            try:
                self._read(file, torch.device("cpu"))
            except DAMAGED as error:
                unreadable = error
                logger.warning(f"cannot read checkpoint {file} ({_reason(error)}); trying the previous one")
                continue
            if file == self.previous:
                self.previous.replace(self.last)
            return
        if unreadable is not None:
            raise self._unreadable() from unreadable

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last checkpoint, or None if there is none. Raises WorkError if it belongs to another run."""
        if not self.last.exists():
            return None
        try:
            state = self._read(self.last, device)
        except DAMAGED as error:
            raise self._unreadable() from error
        if state.get("run_id") != self.run_id:
            raise WorkError(f"checkpoint {self.last} belongs to run {state.get('run_id')}, not {self.run_id}")
        return state

    def _unreadable(self) -> WorkError:
        return WorkError(f"cannot read checkpoints in {self.last.parent}; delete them to train this run again")

    @staticmethod
    def _read(file: Path, device: torch.device) -> dict[str, Any]:
        return torch.load(file, map_location=device, weights_only=True)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:120]
