"""A GPU computes what a CPU computes in fp32, in every way that training uses it.

Tolerances: rounding changes logits by 1e-6 of the largest one, weights of 10 bits, as in TF32, by 3e-4 to 1e-3. Ten
updates of LN networks in fp32 end 6e-5 of the distance travelled from those in fp64, with activations of 10 bits 6e-3.
With BN and ReLU rounding is amplified, to 44 % after ten updates; in fp64, noise of 1e-15 ends 1e-9 apart. So BN
networks are compared in fp64.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from roadmap.config import config_dir
from roadmap.config.build import build
from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import Timed
from roadmap.runtime.distributed import data_parallel
from roadmap.training.build import build_trainer
from roadmap.training.trainer import Trainer

pytestmark = pytest.mark.timeout(120)
CPU = torch.device("cpu")
RESNET, CONVNEXT = "step=resnet50", "step=separate_downsampling"
STEPS = sorted(file.stem for file in (config_dir() / "step").glob("*.yaml"))
# digits, ten updates, without random augmentation on the device, whose generator is not the CPU's
TEN_UPDATES = (
    *(
        "epochs=1",
        "batch_size=35",
        "cuda_graph=false",
        "recipe.augment.horizontal_flip=0",
        "recipe.augment.random_erasing=0",
    ),
    *(f"recipe.augment.{key}=null" for key in ("mixup", "cutmix", "randaugment")),
    *("recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.crop_aspect=[1.0,1.0]"),
)


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Fail where a value differs by more than this share of the largest expected value, or is not a number."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def joined(tensors: Iterable[Tensor]) -> Tensor:
    """All values in one vector of fp64 on the CPU."""
    return torch.cat([tensor.detach().flatten().double().cpu() for tensor in tensors])


def randomised(network: nn.Module) -> nn.Module:
    """The network with weights that let the image through to the logits.

    Initial weights of 0.02, BN that does not normalise in evaluation and layer scale of 1e-6 leave 1e-4 of it.
    """
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():  # without constants
        if tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor, generator=generator)
        elif tensor.ndim == 1:
            drawn = torch.rand(tensor.shape, generator=generator)
            factor = name.endswith(("weight", "running_var"))
            tensor.data.copy_(drawn + 0.5 if factor else 0.4 * drawn - 0.2)
    return network


def logits_and_gradients(network: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Logits of a batch, and the gradients of a loss in one vector."""
    logits = forward(images)
    nn.functional.cross_entropy(logits, torch.arange(len(images), device=images.device)).backward()
    gradients = joined(parameter.grad for parameter in network.parameters() if parameter.grad is not None)
    network.zero_grad()
    return logits, gradients


def check_against_cpu(
    words: tuple[str, ...], device: torch.device, memory_format: torch.memory_format, *, compiled: bool = False
) -> None:
    """Compare logits and gradients with the CPU's in contiguous memory; ReLUs that flip moved gradients by 7e-3."""
    torch.manual_seed(0)
    network = randomised(build(*words)).eval()
    images = torch.randn(2, 3, 64, 64)
    expected, expected_gradients = logits_and_gradients(network, images, network)
    assert (expected[0] - expected[1]).abs().max() > 0.02 * expected.abs().max(), "the logits ignore the images"
    network.to(device=device, memory_format=memory_format)
    # a CPU's twin leaves out the compiler, which takes a minute
    backend = "inductor" if device.type == "cuda" else "eager"
    forward = torch.compile(network, backend=backend) if compiled else network
    logits, gradients = logits_and_gradients(network, images.to(device), forward)
    assert_close(logits, expected, 1e-4)
    assert (gradients - expected_gradients).norm() <= 2e-2 * expected_gradients.norm()


@pytest.mark.parametrize("step", STEPS)
def test_every_step_in_channels_last(step: str, regime: str, device: torch.device) -> None:
    check_against_cpu((f"regime={regime}", f"step={step}"), device, torch.channels_last)


@pytest.mark.parametrize("step", [RESNET, CONVNEXT])
def test_contiguous_memory(step: str, regime: str, device: torch.device) -> None:
    check_against_cpu((f"regime={regime}", step), device, torch.contiguous_format)


@pytest.mark.parametrize("step", [RESNET, CONVNEXT])
def test_compiled(step: str, size: tuple[str, ...], device: torch.device) -> None:
    torch.compiler.reset()
    check_against_cpu(("regime=nano", step, *size[:1]), device, torch.channels_last, compiled=True)


def trainer_on(device: torch.device, *words: str, double: bool = False) -> Trainer:
    """The trainer of a nano run of ten updates on digits; ``double``: its network computes in fp64."""
    experiment = compose([*TEN_UPDATES, *words]).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, device), device)
    if double:
        network = trainer.parts.network.double()
        # casts its state to fp64
        trainer.parts.optimizer.load_state_dict(trainer.parts.optimizer.state_dict())
        trainer.parts = replace(trainer.parts, forward=lambda images: network(images.double()))
    return trainer


def update(trainer: Trainer, images: Tensor, labels: Tensor) -> float:
    """Train one update; return its loss."""
    batch = images.to(trainer.device), labels.to(trainer.device)
    trainer.train_step(Timed(iter([batch]), trainer.device))
    trainer.losses.read()
    assert trainer.losses.last_finite is not None
    return trainer.losses.last_finite


def ten_updates(trainer: Trainer, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the loss of each update."""
    trainer.parts.network.train()
    return torch.tensor([update(trainer, *batch) for batch in batches], dtype=torch.float64)


def test_batches_of_the_loader(device: torch.device) -> None:
    """Images are cropped and normalised on the device."""
    pairs = zip(trainer_on(CPU).loaders.train.batches(0), trainer_on(device).loaders.train.batches(0), strict=True)
    for (expected, expected_labels), (images, labels) in pairs:
        assert_close(images, expected, 1e-5)
        assert torch.equal(labels.cpu(), expected_labels)


@pytest.mark.parametrize(
    ("words", "double", "loss_tolerance", "weight_tolerance"),
    [
        ((RESNET,), True, 1e-6, 1e-6),  # SGD
        (("step=enhanced_recipe",), True, 1e-6, 1e-6),  # AdamW
        (("step=layer_norm",), False, 1e-4, 2e-3),
        ((CONVNEXT,), False, 1e-4, 2e-3),
        ((CONVNEXT, "recipe=original"), False, 1e-4, 2e-3),
    ],
)
def test_ten_updates(
    words: tuple[str, ...],
    double: bool,
    loss_tolerance: float,
    weight_tolerance: float,
    size: tuple[str, ...],
    device: torch.device,
) -> None:
    """The same losses, and weights that end at the same place, as a share of the distance travelled."""
    words = (*words, *size)
    reference, trainer = trainer_on(CPU, *words, double=double), trainer_on(device, *words, double=double)
    batches = list(reference.loaders.train.batches(0))
    start = joined(reference.parts.network.parameters())
    expected, losses = ten_updates(reference, batches), ten_updates(trainer, batches)
    assert_close(losses, expected, loss_tolerance)
    end, found = joined(reference.parts.network.parameters()), joined(trainer.parts.network.parameters())
    assert (found - end).norm() <= weight_tolerance * (end - start).norm()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_ten_updates_in_lower_precision(precision: str, size: tuple[str, ...], device: torch.device) -> None:
    """Losses within 2 % of those in fp32; on a CPU they were within 0.2 % in bf16 and 0.03 % in fp16."""
    trainers = (trainer_on(device, CONVNEXT, *size, *more) for more in ((), (f"precision={precision}",)))
    expected, losses = (ten_updates(trainer, trainer.loaders.train.batches(0)) for trainer in trainers)
    assert_close(losses, expected, 0.02)


@pytest.mark.gpu
def test_ten_updates_as_a_graph() -> None:
    """Recorded and replayed; tests/training/test_graph.py has a stand-in for the recording on a CPU."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    cuda = torch.device("cuda")
    eager, graph = trainer_on(cuda, CONVNEXT), trainer_on(cuda, CONVNEXT, "cuda_graph=true")
    batches = list(eager.loaders.train.batches(0))
    start = joined(eager.parts.network.parameters())
    assert_close(ten_updates(graph, batches), ten_updates(eager, batches), 1e-4)
    end, found = joined(eager.parts.network.parameters()), joined(graph.parts.network.parameters())
    assert (found - end).norm() <= 2e-3 * (end - start).norm()


def test_residual_precision(size: tuple[str, ...], device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints how far the losses of ten updates in bf16 are from those in fp32, with sums of either precision."""
    words = [(), *(("precision=bf16", f"recipe.network.residual={sums}") for sums in ("fp32", "autocast"))]
    trainers = [trainer_on(device, CONVNEXT, *size, *each) for each in words]
    expected, *losses = (ten_updates(trainer, trainer.loaders.train.batches(0)) for trainer in trainers)
    for found in losses:
        assert_close(found, expected, 0.02)
    assert not torch.equal(*losses), "the setting changes the sums"
    with capsys.disabled():
        errors = [f"{(found - expected).abs().mean() / expected.mean():.2e}" for found in losses]
        print(f"\n{device.type}: mean error of the loss in bf16: {errors[0]} with sums in fp32, {errors[1]} in bf16")


class Waits(TorchDispatchMode):
    """Counts operators whose result the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select", "unique"))
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_waits(device: torch.device) -> Iterator[Callable[[], int]]:
    """Count how often the host waits for the device: by CUDA's own warnings on a GPU, by operator on a CPU."""
    if device.type == "cpu":
        with Waits() as waits:
            yield lambda: waits.count
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "words",
    [
        (CONVNEXT, "precision=bf16", "recipe.ema_decay=0.9"),
        (CONVNEXT, "precision=fp16"),
        (RESNET, "precision=bf16", "recipe.ema_decay=0.9"),
        (CONVNEXT, "precision=bf16", "cuda_graph=auto"),
        (RESNET, "precision=bf16", "max_skipped_updates=1"),
        pytest.param((CONVNEXT, "precision=bf16", "recipe.ema_decay=0.9", "compile=true"), marks=pytest.mark.gpu),
    ],
)
def test_updates_do_not_wait_for_the_device(
    words: tuple[str, ...], device: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a trainer that resumes another's run."""
    if device.type == "cpu" and "compile=true" in words:
        pytest.skip("the count of a CPU does not see compiled operators")
    stopped, trainer = trainer_on(device, *words), trainer_on(device, *words)
    stopped.train_step(Timed(stopped.loaders.train.batches(0), device))
    trainer.load_state_dict(stopped.state_dict())
    trainer.parts.network.train()
    trainer.losses.every = 1000
    batches = Timed(trainer.loaders.train.batches(0), device)
    for _ in range(4):  # allocations, and the recording of a graph
        trainer.train_step(batches)
    with counted_waits(device) as waits:
        for _ in range(5):
            trainer.train_step(batches)
    with capsys.disabled():
        print(f"\n{device.type}, {' '.join(words)}: the host waits {waits()} times in 5 updates")
    assert waits() == 0
    with counted_waits(device) as waits:
        trainer.losses.read() if device.type == "cuda" else torch.ones(1).sum().item()
    assert waits() > 0, "the count sees a wait"


def test_ddp_in_one_process(size: tuple[str, ...], device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """NCCL on a GPU, gloo on a CPU: the updates of the plain network; prints both times."""
    on_rank_0 = torch.device("cuda", 0) if device.type == "cuda" else device
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        plain, wrapped = (trainer_on(device, CONVNEXT, *size) for _ in range(2))
        ddp = data_parallel(wrapped.parts.network, on_rank_0)
        wrapped.parts = replace(wrapped.parts, forward=ddp, no_sync=ddp.no_sync)
        start = joined(plain.parts.network.parameters())
        batches, seconds = list(plain.loaders.train.batches(0)), []
        for trainer in (plain, wrapped):
            began = time.perf_counter()
            ten_updates(trainer, batches)
            seconds.append(time.perf_counter() - began)
    finally:
        torch.distributed.destroy_process_group()
    end, found = joined(plain.parts.network.parameters()), joined(wrapped.parts.network.parameters())
    assert (found - end).norm() <= 2e-3 * (end - start).norm()
    with capsys.disabled():
        print(f"\n{device.type}: ten updates in {seconds[0]:.2f} s, by DDP in one process in {seconds[1]:.2f} s")


def training_state(trainer: Trainer) -> Tensor:
    """All that an update changes: weights, and the state of the optimizer."""
    return joined([*trainer.parts.network.parameters(), *floats(trainer.parts.optimizer.state_dict())])


def floats(value: Any) -> list[Tensor]:
    """The floating-point tensors in a state dict or a part of one."""
    if isinstance(value, Mapping):
        return [tensor for part in value.values() for tensor in floats(part)]
    return [value] if isinstance(value, Tensor) and value.is_floating_point() else []


@pytest.mark.parametrize("recipe", ["original", "enhanced"])
def test_fp16_skips_an_update_that_overflows(recipe: str, size: tuple[str, ...], device: torch.device) -> None:
    trainer = trainer_on(device, CONVNEXT, f"recipe={recipe}", "precision=fp16", *size)
    batches = trainer.loaders.train.batches(0)

    def changed_by_update(overflow: bool = False) -> bool:
        before = training_state(trainer)
        weight = next(trainer.parts.network.parameters())
        hook = weight.register_hook(lambda gradient: torch.full_like(gradient, torch.inf) if overflow else gradient)
        update(trainer, *next(batches))
        hook.remove()
        return not torch.equal(before, training_state(trainer))

    while not changed_by_update():  # the scale may have to come down from its start first
        pass
    scale = trainer.parts.scaler.get_scale()
    assert not changed_by_update(overflow=True)
    assert trainer.parts.scaler.get_scale() == scale / 2
    assert changed_by_update()
    assert training_state(trainer).isfinite().all()


def test_ema_is_the_average_of_weights_and_batch_norm_statistics(size: tuple[str, ...], device: torch.device) -> None:
    trainer = trainer_on(device, RESNET, "recipe.ema_decay=0.9", *size)
    trainer.parts.network.train()
    start = trainer.parts.network.state_dict()
    expected = {name: tensor.double().cpu() for name, tensor in start.items() if tensor.is_floating_point()}
    for images, labels in trainer.loaders.train.batches(0):
        update(trainer, images, labels)
        for name, tensor in trainer.parts.network.state_dict().items():
            if tensor.is_floating_point():
                now = tensor.detach().double().cpu()
                expected[name] = 0.9 * expected[name] + 0.1 * now
    assert trainer.parts.ema is not None
    averages = trainer.parts.ema.network.state_dict()
    for name, average in expected.items():
        assert_close(averages[name], average, 1e-5)
