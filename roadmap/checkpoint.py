"""Checkpoints: everything a resume needs, written whole or not at all, loaded with ``weights_only=True``."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from roadmap.errors import WorkError


class Checkpoints:
    """``last.pt`` and ``best.pt`` of one run."""

    def __init__(self, folder: Path, run_id: str):
        self.last, self.best, self.run_id = folder / "last.pt", folder / "best.pt", run_id

    def save(self, state: Mapping[str, Any], best: bool) -> None:
        """Make ``state`` the last checkpoint, and the best one too if it is: another name for the same file."""
        partial = self.last.with_name(f".last.pt.{os.getpid()}")
        torch.save(dict(state) | {"run_id": self.run_id}, partial)
        partial.replace(self.last)
        if best:
            link = self.best.with_name(f".best.pt.{os.getpid()}")
            link.unlink(missing_ok=True)
            os.link(self.last, link)
            link.replace(self.best)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first. Raises WorkError for a file that cannot be read."""
        if not self.last.exists():
            return None
        try:
            state = torch.load(self.last, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise WorkError(f"cannot read checkpoint {self.last}; delete it to train this run anew") from error
        if state.get("run_id") != self.run_id:
            raise WorkError(f"checkpoint {self.last} belongs to run {state.get('run_id')}, not {self.run_id}")
        return state
