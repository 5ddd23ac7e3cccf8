"""The update of a small network as one CUDA graph: one call launches kernels that else take hundreds.

The first updates of a process run as they are, which torch's documentation asks for; then one is recorded, and all
further ones replay the recording on the same memory. So an update reads its batch and its learning rates from buffers.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from roadmap.data.image_dataset import ImageFileBatches
from roadmap.data.loaders import Loaders, TrainLoader
from roadmap.errors import RequestError, WorkError, first_line
from roadmap.runtime.device import is_out_of_memory
from roadmap.schema.experiment import Experiment
from roadmap.training.trainer import TrainingParts

logger = logging.getLogger(__name__)

WARM_UP = 3  # updates before the recording, in which libraries choose their kernels and allocate what they need
MOST_PIXELS = 64  # side of the images up to which launching takes longer than computing


class CudaRecording:
    """A CUDA graph, and the stream that it is recorded on."""

    def __init__(self, device: torch.device):
        self.graph, self.stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)

    def run(self, function: Callable[[], Tensor]) -> Tensor:
        """Call a function on the recording's stream, without recording it."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Tensor]) -> Tensor:
        """Record what a function does, without doing it; return where each replay leaves its result."""
        # other threads may use the device meanwhile, to write a checkpoint
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return function()

    def replay(self) -> None:
        """Do what was recorded."""
        self.graph.replay()


class GraphedUpdate:
    """An update, from the loader's ``inputs`` to the average of weights, that is recorded once and then replayed.

    All of it must be work of the device alone, on the same shapes and memory in each call: what Python does in it
    happens in the first calls only. ``required``: that it cannot be recorded is an error, not a warning.
    """

    def __init__(self, parts: TrainingParts, train: TrainLoader, recording: CudaRecording, *, required: bool):
        self.parts, self.optimizer, self.train, self.required = parts, parts.optimizer, train, required
        self.recording: CudaRecording | None = recording
        self.inputs: tuple[Tensor, ...] = ()
        self.rates: list[Tensor] = []
        self.loss: Tensor | None = None
        self.calls = 0

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Do an update; return its loss."""
        if self.recording is None:
            return self.update(inputs)
        self.fill_buffers(inputs)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.recording.run(self.on_buffers)
        if self.loss is None:
            try:
                self.loss = self.recording.record(self.on_buffers)
            except RuntimeError as error:
                self.give_up(error)
                return self.update(inputs)
        self.recording.replay()
        return self.loss.clone()

    def update(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Do an update without a graph; return its loss."""
        return self.parts.update(*self.train.prepare(inputs))

    def fill_buffers(self, inputs: tuple[Tensor, ...]) -> None:
        """Copy what differs between updates, without waiting for the device."""
        groups = self.optimizer.param_groups
        if not self.inputs:
            self.inputs = tuple(torch.empty_like(tensor) for tensor in inputs)
            self.rates = [torch.empty((), device=group["params"][0].device) for group in groups]
        for buffer, tensor in zip(self.inputs, inputs, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        for buffer, group in zip(self.rates, groups, strict=True):
            buffer.fill_(group["lr"])

    def on_buffers(self) -> Tensor:
        """Do the update of the buffers."""
        with rates_on_device(self.optimizer, self.rates):
            return self.update(self.inputs)

    def give_up(self, error: RuntimeError) -> None:
        """Do this and all further updates without a graph. Raises WorkError if it is required."""
        self.recording = None
        self.optimizer.zero_grad(set_to_none=True)
        if is_out_of_memory(error):
            raise error
        reason = f"the update could not be recorded as a CUDA graph ({first_line(error)[:120]})"
        if self.required:
            raise WorkError(f"{reason}; choose cuda_graph=false") from error
        logger.warning(f"{reason}; training without")


@contextmanager
def rates_on_device(optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Let an optimizer read each group's learning rate from a tensor, whose later changes a recorded step sees."""
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    groups, before = optimizer.param_groups, [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
        if "capturable" in group:  # Adam keeps its count of steps on the device then, as the fused one does anyway
            group["capturable"] = capturing
    try:
        yield
    finally:
        for group, plain in zip(groups, before, strict=True):
            group.update(plain)


def uses_graph(experiment: Experiment, loaders: Loaders, device: torch.device) -> bool:
    """Whether a run replays its updates as a CUDA graph. Raises RequestError if one is required where none can be."""
    settings, share = experiment.settings, loaders.train.share
    obstacles = {
        f"device={device.type}": device.type != "cuda",
        "several processes": share.processes > 1,
        f"the image files of data={experiment.data.name}": isinstance(loaders.train.source, ImageFileBatches),
        f"micro_batch_size={share.micro_batch_size}, a part of an update": share.accumulation > 1,
        "compile=true": settings.compile is True,
        # torch saves the device's random state for the second time
        f"checkpoint_stages={settings.checkpoint_stages}": settings.checkpoint_stages > 0,
        "precision=fp16": experiment.precision == "fp16",
        f"max_skipped_updates={settings.max_skipped_updates}": settings.max_skipped_updates > 0,
    }
    found = next((words for words, there in obstacles.items() if there), None)
    if settings.cuda_graph == "auto":
        return found is None and experiment.image_size <= MOST_PIXELS
    if settings.cuda_graph and found is not None:
        raise RequestError(f"cuda_graph=true does not go with {found} (choose cuda_graph=auto)")
    return settings.cuda_graph
