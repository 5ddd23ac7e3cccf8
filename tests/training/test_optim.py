"""Optimizer groups, learning rates and averaged weights against values calculated by hand."""

import math

import pytest
import torch
from timm.utils import ModelEma

from roadmap.config.build import build
from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import Timed
from roadmap.runtime.device import autocast
from roadmap.training.build import build_trainer
from roadmap.training.optim import build_optimizer, build_schedule, learning_rate
from roadmap.training.trainer import TrainingParts

ORIGINAL = compose(["recipe=original", "data=imagenet", "data.root=x"]).recipe
ENHANCED = compose(["recipe=enhanced", "data=imagenet", "data.root=x", "regime=tiny"]).recipe
UPDATES_PER_EPOCH = 312  # 1,281,167 // 4096


def test_enhanced_decays_matrices_only() -> None:
    network = build("regime=nano", "step=separate_downsampling")
    optimizer = build_optimizer(network, ENHANCED.optimizer)
    decayed, undecayed = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.05, 0.0)
    assert (decayed["lr"], decayed["betas"], decayed["eps"]) == (4e-3, (0.9, 0.999), 1e-8)
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert all(
        names[p].endswith("weight") and "norm" not in names[p] and "scale" not in names[p] for p in decayed["params"]
    )
    assert all(names[p].endswith("bias") or "norm" in names[p] or "scale" in names[p] for p in undecayed["params"])
    assert len(decayed["params"]) + len(undecayed["params"]) == len(names)


def test_original_decays_everything() -> None:
    network = build("regime=nano", "step=resnet50")
    optimizer = build_optimizer(network, ORIGINAL.optimizer)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)
    assert len(group["params"]) == len(list(network.parameters()))


def test_first_step_skipped_by_fp16_does_not_change_momentum() -> None:
    """torch's fused SGD would use an uninitialised buffer."""

    def weights(scaled: bool) -> torch.Tensor:
        layer = torch.nn.Linear(300, 300)
        torch.nn.init.constant_(layer.weight, 0.01)
        optimizer = build_optimizer(layer, ORIGINAL.optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled)
        for infinite in (True, False, False) if scaled else (False, False):
            scaler.scale(layer(torch.ones(2, 300)).sum() * (torch.inf if infinite else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return layer.weight.detach()

    assert torch.equal(weights(scaled=True), weights(scaled=False))


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.1), (29.99, 0.1), (30, 0.01), (59.99, 0.01), (60, 0.001), (89.99, 0.001)]
)
def test_original_learning_rate(epoch: float, lr: float) -> None:
    updates = 90 * 5004
    assert learning_rate(math.floor(epoch * 5004), updates, 0.1, ORIGINAL.schedule) == pytest.approx(lr)


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [
        (0, 0.0),
        (5, 1e-3),
        (10, 2e-3),
        (20, 4e-3),
        (160, (4e-3 + 1e-6) / 2),
        (90, 1e-6 + (4e-3 - 1e-6) * (1 + math.cos(math.pi / 4)) / 2),
        (300, 1e-6),
    ],
)
def test_enhanced_learning_rate(epoch: int, lr: float) -> None:
    """20 epochs of warm-up from 0, then a cosine to 1e-6 over 280."""
    updates = 300 * UPDATES_PER_EPOCH
    assert learning_rate(epoch * UPDATES_PER_EPOCH, updates, 4e-3, ENHANCED.schedule) == pytest.approx(lr, abs=1e-12)


def test_fewer_epochs_shrink_the_whole_schedule() -> None:
    for recipe, lr in ((ORIGINAL.schedule, 0.1), (ENHANCED.schedule, 4e-3)):
        for share in (0.0, 0.03, 0.2, 0.5, 0.99):
            long, short = (learning_rate(round(share * n), n, lr, recipe) for n in (100_000, 100))
            assert short == pytest.approx(long)


def test_schedule_sets_the_learning_rate_of_each_update() -> None:
    network = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(network, ENHANCED.optimizer)
    schedule = build_schedule(optimizer, ENHANCED.schedule, 4e-3, updates=30)
    seen = []
    for _ in range(30):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([learning_rate(update, 30, 4e-3, ENHANCED.schedule) for update in range(30)])
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-6)


def test_average_equals_the_authors_from_the_first_update_on() -> None:
    """timm's ModelEma, which the paper's code uses; it rounds counters down, while ours copies them."""
    device = torch.device("cpu")
    experiment = compose(["step=fewer_norms", "batch_size=64", "recipe.ema_decay=0.9"]).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, device), device)
    assert trainer.parts.ema is not None
    theirs = ModelEma(trainer.parts.network, decay=0.9)
    batches = Timed(trainer.loaders.train.batches(0), device)
    trainer.parts.network.train()
    for _ in range(5):
        trainer.train_step(batches)
        theirs.update(trainer.parts.network)
    averaged, expected = trainer.parts.ema.network.state_dict(), theirs.ema.state_dict()
    counters = [name for name in averaged if name.endswith("num_batches_tracked")]
    assert list(averaged) == list(expected)
    assert len([name for name in averaged if "running_" in name]) == 2 * len(counters) > 0
    for name, tensor in averaged.items():
        if name not in counters:
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-7)
    assert all(averaged[name] == 5 for name in counters)


def test_loss_is_computed_in_fp32() -> None:
    """Of logits in bf16: a loss that autocast would leave in bf16, against the same in fp32."""

    class Squares(torch.nn.Module):
        def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return logits.square().sum()

    network = torch.nn.Linear(8, 4)
    images = torch.randn(16, 8)
    in_bf16 = autocast(torch.device("cpu"), "bf16")
    with in_bf16(), torch.no_grad():
        logits = network(images)
    assert logits.dtype == torch.bfloat16
    optimizer = torch.optim.SGD(network.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    parts = TrainingParts(network, network, optimizer, schedule, Squares(), scaler, autocast=in_bf16)
    loss = parts.backward(images, images, 1)
    assert loss.dtype == torch.float32
    assert loss == logits.float().square().sum()
    assert loss != logits.square().sum(), "the test can tell them apart"
