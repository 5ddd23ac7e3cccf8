"""Averaged weights of networks with BN, calculated by hand."""

import torch

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.loaders import Timed
from roadmap.training.build import build_trainer


def test_running_statistics_are_averaged_like_weights_and_counters_copied() -> None:
    device = torch.device("cpu")
    experiment = compose(["step=fewer_norms", "batch_size=64", "recipe.ema_decay=0.9"]).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, device), device)
    assert trainer.parts.ema is not None
    average: dict[str, torch.Tensor] = {}
    batches = Timed(trainer.loaders.train.batches(0), device)
    trainer.parts.network.train()
    for _ in range(5):
        trainer.train_step(batches)
        state = {name: tensor.detach().double() for name, tensor in trainer.parts.network.state_dict().items()}
        # the average starts with the weights after the first update
        average = {name: 0.9 * average[name] + 0.1 * tensor if average else tensor for name, tensor in state.items()}
    averaged = trainer.parts.ema.module.state_dict()
    statistics = [name for name in averaged if "running_" in name]
    counters = [name for name in averaged if name.endswith("num_batches_tracked")]
    assert len(statistics) == 2 * len(counters) > 0
    for name, tensor in averaged.items():
        if name not in counters:
            torch.testing.assert_close(tensor, average[name].float(), rtol=1e-5, atol=1e-7)
    assert all(averaged[name] == 5 for name in counters), "a rounded average would stay at 1"
    difference = averaged[statistics[0]] - trainer.parts.network.state_dict()[statistics[0]]
    assert difference.abs().max() > 1e-4, "the average is not the last value"
