"""Averaged weights of networks with BN: the policy for its statistics, by hand."""

import torch

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.runtime.distributed import ALONE
from roadmap.runtime.stopping import StopRequest
from roadmap.training.build import build_trainer


def test_running_statistics_are_averaged_like_weights_and_counters_copied() -> None:
    """Five updates of a network with BN, its average reckoned beside it: 0.9 of the average, 0.1 of the network."""
    device = torch.device("cpu")
    experiment = compose(["step=fewer_norms", "batch_size=64", "recipe.ema_decay=0.9"]).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, device), device, ALONE, StopRequest())
    assert trainer.ema is not None
    average: dict[str, torch.Tensor] = {}
    batches = trainer.train.batches(0)
    trainer.network.train()
    for _ in range(5):
        trainer.update([trainer.backward(*next(batches), last=True)])
        state = {name: tensor.detach().double() for name, tensor in trainer.network.state_dict().items()}
        # the first update's weights are where the average begins
        average = {name: 0.9 * average[name] + 0.1 * tensor if average else tensor for name, tensor in state.items()}
    averaged = trainer.ema.module.state_dict()
    statistics = [name for name in averaged if "running_" in name]
    counters = [name for name in averaged if name.endswith("num_batches_tracked")]
    assert len(statistics) == 2 * len(counters) > 0
    for name, tensor in averaged.items():
        if name not in counters:
            torch.testing.assert_close(tensor, average[name].float(), rtol=1e-5, atol=1e-7)
    assert all(averaged[name] == 5 for name in counters), "an average rounded down would stay at 1"
    moved = averaged[statistics[0]] - trainer.network.state_dict()[statistics[0]]
    assert moved.abs().max() > 1e-4, "neither the network's statistics nor those of its last batch"
