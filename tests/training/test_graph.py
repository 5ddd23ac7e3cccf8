"""An update recorded once and replayed, with a stand-in on the CPU for CUDA's graphs.

The stand-in records every operation of torch and repeats the list on the same tensors, so that whatever Python decides
or counts in an update is frozen, as in a CUDA graph.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import TrainLoader
from roadmap.errors import RequestError, WorkError
from roadmap.training import graph, optim
from roadmap.training.build import build_trainer
from roadmap.training.graph import WARM_UP, GraphedUpdate, uses_graph
from roadmap.training.trainer import Trainer
from tests.faults.kill_and_resume import equal

CPU = torch.device("cpu")
HOST = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class TapeMode(TorchDispatchMode):
    """Records operations, and undoes what they change: recording a CUDA graph does nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()  # ids of tensors, which ``operations`` keeps
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # tensors of others and their copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert not any(name in str(func) for name in HOST), f"{func} waits for the device"
        if "index" in str(func):
            assert not any(tensor.dtype == torch.bool for tensor in tensors_of(args[1:])), "a shape depends on values"
        for tensor in tensors_of([*args, *kwargs.values()]):  # not all that change a tensor say so: batch_norm
            if id(tensor) not in self.made:
                self.before.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        out = func(*args, **kwargs)
        self.made |= set(map(id, tensors_of(out)))
        self.operations.append((func, args, kwargs, out))
        return out


class Tape:
    """A stand-in for ``CudaRecording``."""

    def __init__(self) -> None:
        self.replays = 0

    def run(self, function: Callable[[], Tensor]) -> Tensor:
        return function()

    def record(self, function: Callable[[], Tensor]) -> Tensor:
        mode, random = TapeMode(), torch.get_rng_state()
        with mode:
            result = function()
        torch.set_rng_state(random)
        with torch.no_grad():
            for tensor, before in reversed(mode.before.values()):
                tensor.copy_(before)
        self.operations = mode.operations
        return result.fill_(float("nan"))

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                for old, new in zip(*map(tensors_of, (out, func(*args, **kwargs))), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for one in value for tensor in tensors_of(one)] if isinstance(value, list | tuple) else []


def new_trainer(*words: str, replays: bool = False) -> Trainer:
    words = ("data.holdout=0.2", "batch_size=64", "epochs=2", "eval_every=9", *words)
    experiment = compose(words).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, CPU), CPU)
    if replays:
        trainer.graph = GraphedUpdate(trainer.parts, trainer.loaders.train, Tape(), required=True)
    return trainer


@pytest.fixture(autouse=True)
def noise_as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn for whole images, not only for erased boxes, as what is drawn next depends on it."""
    prepare = TrainLoader.prepare
    monkeypatch.setattr(TrainLoader, "prepare", lambda self, tensors, micro_batch=None: prepare(self, tensors))


@pytest.fixture
def rounded_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates that float32 holds exactly, as a graph's buffers do."""
    learning_rate = optim.learning_rate
    monkeypatch.setattr(optim, "learning_rate", lambda *words: torch.tensor(learning_rate(*words)).item())


def assert_same(one: Trainer, other: Trainer) -> None:
    states = one.state_dict(), other.state_dict()
    for name in ("network", "ema", "optimizer", "schedule", "scaler", "losses"):
        assert equal(states[0][name], states[1][name]), name


# AdamW, EMA, MixUp, CutMix and stochastic depth; SGD, BN and autocast
NETWORKS = [
    ["step=separate_downsampling", "recipe.ema_decay=0.9", "recipe.network.stochastic_depth=0.2"],
    ["step=resnet50", "precision=bf16"],
]


@pytest.mark.parametrize("words", NETWORKS)
def test_replayed_run_equals_an_ordinary_one(words: list[str], rounded_rates: None) -> None:
    replayed, eager = new_trainer(*words, replays=True), new_trainer(*words)
    for trainer in (replayed, eager):
        trainer.fit()
    assert isinstance(replayed.graph, GraphedUpdate)
    assert isinstance(replayed.graph.recording, Tape)
    assert replayed.graph.recording.replays == 2 * replayed.loaders.train.share.updates - WARM_UP > 0
    assert_same(replayed, eager)


def test_stand_in_freezes_what_python_does(rounded_rates: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a learning rate that is a number and not a tensor: the comparison above can fail."""
    monkeypatch.setattr(graph, "rates_on_device", lambda *words: nullcontext())
    replayed, eager = new_trainer(*NETWORKS[0], replays=True), new_trainer(*NETWORKS[0])
    for trainer in (replayed, eager):
        trainer.fit()
    with pytest.raises(AssertionError, match="network"):
        assert_same(replayed, eager)
    with pytest.raises(AssertionError, match="waits for the device"), TapeMode():
        torch.ones(2).sum().item()


def test_rounding_of_the_learning_rate_is_all_that_differs() -> None:
    replayed, eager = new_trainer(*NETWORKS[0], replays=True), new_trainer(*NETWORKS[0])
    for trainer in (replayed, eager):
        trainer.fit()
        assert all(type(group["lr"]) is float for group in trainer.parts.optimizer.param_groups)
    for one, other in zip(replayed.parts.network.parameters(), eager.parts.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_graph", [True, False])
def test_run_resumes_with_and_without_a_graph(first_graph: bool, rounded_rates: None) -> None:
    """After seven updates, of which a graph replays the last four."""
    first, second, whole = (
        new_trainer(*NETWORKS[0], "epochs=3", replays=kind) for kind in (first_graph, not first_graph, False)
    )
    steps = first.steps()
    for _ in range(7):
        next(steps)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.fit()
    whole.fit()
    assert_same(second, whole)


class Unrecordable(Tape):
    def record(self, function: Callable[[], Tensor]) -> Tensor:
        function()
        raise RuntimeError("operation not permitted when stream is capturing")


def test_failed_recording_is_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    trainer = new_trainer(replays=True)
    trainer.graph = GraphedUpdate(trainer.parts, trainer.loaders.train, Unrecordable(), required=True)
    with pytest.raises(WorkError, match=r"^the update could not be recorded as a CUDA graph \(operation not permitted"):
        trainer.fit()
    trainer.graph = GraphedUpdate(trainer.parts, trainer.loaders.train, Unrecordable(), required=False)
    trainer.fit()
    assert caplog.text.count("the update could not be recorded as a CUDA graph") == 1


CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("words", "device", "found"),
    [
        ([], CPU, "device=cpu"),
        (["compile=true"], CUDA, "compile=true"),
        (["checkpoint_stages=2"], CUDA, "checkpoint_stages=2"),
        (["precision=fp16"], CUDA, "precision=fp16"),
        (["max_skipped_updates=1"], CUDA, "max_skipped_updates=1"),
        (["micro_batch_size=32", "recipe.batch_norm_images=32"], CUDA, "micro_batch_size=32, a part of an update"),
        (["FILES"], CUDA, "the image files of data=imagefolder"),
        (["image_size=96"], CUDA, None),
    ],
)
def test_where_a_graph_is_used(words: list[str], device: torch.device, found: str | None, photo_folder: Path) -> None:
    files = ["data=imagefolder", f"data.root={photo_folder}", "batch_size=8", "in_memory=false"]
    words = ["batch_size=64", *(one for word in words for one in (files if word == "FILES" else [word]))]
    experiment = compose(words).experiment()
    loaders = open_loaders(experiment, CPU)
    assert not uses_graph(experiment, loaders, device)
    required = experiment.replace(settings=experiment.settings.replace(cuda_graph=True))
    if found is None:
        assert uses_graph(required, loaders, device)
        return
    with pytest.raises(RequestError, match=rf"^cuda_graph=true does not go with {found} \(choose cuda_graph=auto\)$"):
        uses_graph(required, loaders, device)


def test_small_images_in_memory_on_cuda_use_a_graph() -> None:
    experiment = compose([]).experiment()
    loaders = open_loaders(experiment, CPU)
    assert uses_graph(experiment, loaders, CUDA)
    assert not uses_graph(experiment.replace(settings=experiment.settings.replace(cuda_graph=False)), loaders, CUDA)
