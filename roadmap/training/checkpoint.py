"""Checkpoints and weights files: written whole or not at all, loaded with ``weights_only=True``."""

import logging
import os
import pickle
import struct
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from roadmap.errors import RequestError, WorkError

logger = logging.getLogger(__name__)

# what torch.load raises for truncated or corrupted files
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, struct.error, pickle.UnpicklingError),
)


class Checkpoints:
    """The checkpoints of one run: ``last.pt``, the one before it (``previous.pt``) and ``best.pt``.

    A thread writes them while training goes on; leaving the context waits for it.
    """

    def __init__(self, folder: Path, run_id: str):
        self.last, self.previous, self.best = (folder / f"{name}.pt" for name in ("last", "previous", "best"))
        self.run_id = run_id
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[None] | None = None

    def save(self, state: dict[str, Any], best: bool) -> None:
        """Copy ``state``, and start to write it to ``last.pt`` once the write before has ended.

        If it is the ``best``, ``best.pt`` becomes a hard link to the same file. Raises as ``wait`` does.
        """
        self.wait()
        copy, copied = copied_to_host(state | {"run_id": self.run_id})
        self.writing = self.thread.submit(self._write, copy, copied, best)

    def wait(self) -> None:
        """Wait until all is written.

        Raises WorkError if it could not be; the checkpoints before it are then as they were.
        """
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self.wait()
        except WorkError as error:
            logger.warning(str(error))  # what ended the run is raised
        self.thread.shutdown()

    def _write(self, state: Mapping[str, Any], copied: torch.cuda.Event | None, best: bool) -> None:
        partial = self.last.with_name(f".last.pt.{os.getpid()}")
        if copied is not None:
            copied.synchronize()
        try:
            # fsync before the rename: a power failure must not leave an empty last.pt
            with open(partial, "wb") as file:
                torch.save(state, file)
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

        Only the main process calls this, before a run resumes.
        """
        for partial in self.last.parent.glob(".*.pt.*"):
            partial.unlink(missing_ok=True)
        if self.previous.exists():
            try:
                torch.load(self.last, map_location="cpu", weights_only=True)
            except DAMAGED as error:
                logger.warning(f"cannot read checkpoint {self.last} ({_reason(error)}); using the previous one")
                self.previous.replace(self.last)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last checkpoint, or None if there is none.

        Raises WorkError if it cannot be read or belongs to another run.
        """
        if not self.last.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.last, map_location=device, weights_only=True)
        except DAMAGED as error:
            raise WorkError(
                f"cannot read checkpoints in {self.last.parent}; delete them to train this run again"
            ) from error
        if state.get("run_id") != self.run_id:
            raise WorkError(f"checkpoint {self.last} belongs to run {state.get('run_id')}, not {self.run_id}")
        return state


def copied_to_host(state: dict[str, Any]) -> tuple[dict[str, Any], torch.cuda.Event | None]:
    """Return a copy of a state with its tensors on the CPU, and the event after which those of a GPU are complete."""
    streams = set()

    def copied(tensor: Tensor) -> Tensor:
        if tensor.is_cuda:
            streams.add(torch.cuda.current_stream(tensor.device))
            return tensor.detach().to("cpu", non_blocking=True)  # into pinned memory
        return tensor.detach().to("cpu", copy=True)

    copy = tree_map_only(Tensor, copied, state)
    return copy, streams.pop().record_event() if streams else None


def read_weights_file(file: Path) -> Mapping[str, Any]:
    """Return the content of a checkpoint or a state dict's file, on the CPU.

    Raises RequestError if the file is damaged or contains something else.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise RequestError(f"{file} is not a weights file, or is damaged") from error
    if not isinstance(content, Mapping):
        raise RequestError(f"{file} must contain a state dict (found a {type(content).__name__})")
    return content


def weights_of(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the weights in a file's content, and whether they are averaged, which is preferred in a checkpoint."""
    if "network" not in content:
        return content, False
    averaged = averaged_weights(content)
    return (content["network"], False) if averaged is None else (averaged, True)


def averaged_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a checkpoint's EMA weights under the names of the network, or None if it has none."""
    ema = checkpoint.get("ema")
    # older versions wrote the names of torch's AveragedModel
    return ema and {name.removeprefix("module."): tensor for name, tensor in ema.items() if name != "n_averaged"}


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:120]
