"""Operator calls of an update as a GPU does it, by part: input, forward, loss, backward, optimizer.

Counted on the CPU by a dispatch mode, which sees what reaches a backend: autograd's operators too, none of those that
others are made of, as in a profile. Views and bare allocations launch nothing and are left out. Images are random.
With ``cuda_graph`` a GPU's host calls only what copies an update's inputs, and replays the rest: ``replayed``.

    python benchmarks/operator_calls.py regime=nano data=cifar10 step=separate_downsampling
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from roadmap.config.compose import compose
from roadmap.data import memory, open_loaders
from roadmap.data.loaders import TrainLoader
from roadmap.networks.modules import ScalableConv2d
from roadmap.training.build import build_trainer
from roadmap.training.graph import WARM_UP, GraphedUpdate
from roadmap.training.trainer import Trainer

CPU = torch.device("cpu")
LAUNCH_NOTHING = ("aten.empty", "aten.new_empty", "aten.detach", "aten._unsafe_view", "profiler.")
UPDATES_BEFORE = 1  # in which the optimizer makes its state


class OperatorCalls(TorchDispatchMode):
    """Counts operators by the part that calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.calls = "backward", dict[str, Counter[str]]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [result.alias_info for result in function._schema.returns]
        is_view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
        if not is_view and not str(function).startswith(LAUNCH_NOTHING):
            self.calls.setdefault(self.part, Counter())[str(function)] += 1
        return function(*args, **(kwargs or {}))

    def within(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count what a function calls as a part's."""

        def call(*args: Any, **kwargs: Any) -> Any:
            before, self.part = self.part, part
            try:
                return function(*args, **kwargs)
            finally:
                self.part = before

        return call


def random_images(count: int) -> memory.Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return memory.Images(pixels, torch.arange(count) % 10)


def on_gpu(trainer: Trainer) -> tuple[Any, ...]:
    """Patches after which a CPU calls what a GPU does: all images augmented, no shortcuts of convolutions."""
    prepare = TrainLoader.prepare

    def whole(self: TrainLoader, tensors: tuple[Tensor, ...], micro_batch: Any = None) -> tuple[Tensor, Tensor]:
        return prepare(self, tensors)

    trainer.losses.every = 50
    return (
        mock.patch.object(TrainLoader, "prepare", whole),
        mock.patch.object(ScalableConv2d, "forward_on_small_map", ScalableConv2d._conv_forward),
        mock.patch("roadmap.networks.modules.is_eager_cpu", return_value=False),
    )


def new_trainer(words: Sequence[str]) -> Trainer:
    experiment = compose(["pointwise_linear=false", *words]).experiment()
    # of an epoch that has the updates of both counts; a process reads images once
    images = random_images((WARM_UP + 2) * experiment.batch_size), random_images(16)
    with mock.patch.object(memory, "read_images", return_value=images):
        return build_trainer(experiment, open_loaders(experiment, CPU), CPU)


def operator_calls(*words: str) -> dict[str, Counter[str]]:
    """Return the operators of each part of one update of in-memory data, with how often they are called."""
    trainer = new_trainer(words)
    count, parts = OperatorCalls(), trainer.parts
    trainer.parts = replace(
        parts, forward=count.within("forward", parts.forward), loss=count.within("loss", parts.loss)
    )
    step = count.within("optimizer and EMA", type(parts).step)
    fetch = count.within("input", type(trainer).fetch)
    patches = mock.patch.object(type(parts), "step", step), mock.patch.object(Trainer, "fetch", fetch)
    with ExitStack() as stack:
        for patch in (*on_gpu(trainer), *patches):
            stack.enter_context(patch)
        steps = trainer.steps()
        for _ in range(UPDATES_BEFORE):
            next(steps)
        with count:
            next(steps)
    return count.calls


def replayed_calls(*words: str) -> int:
    """Return how many operators an update calls around the replay of its CUDA graph, which is left out."""
    trainer = new_trainer(words)
    recording = mock.Mock(run=lambda function: function(), record=lambda function: function())
    trainer.losses.every = 50
    trainer.graph = GraphedUpdate(trainer.parts, trainer.loaders.train, recording, required=True)
    steps, count = trainer.steps(), OperatorCalls()
    for _ in range(WARM_UP + 1):
        next(steps)
    recording.replay.reset_mock()
    with count:
        next(steps)
    recording.replay.assert_called_once_with()
    return sum(operators.total() for operators in count.calls.values())


def main() -> None:
    words = sys.argv[1:] or ["regime=nano", "data=cifar10", "step=separate_downsampling"]
    calls = operator_calls(*words)
    for part, operators in calls.items():
        print(f"{part:18}{operators.total():4}  {dict(operators.most_common())}")
    print(f"{'total':18}{sum(operators.total() for operators in calls.values()):4}")
    print(f"{'replayed':18}{replayed_calls(*words):4}  and one graph")


if __name__ == "__main__":
    main()
