"""The exponential moving average (EMA) of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    """``network``: a copy of a trained network that follows its weights and running statistics.

    average ← decay × average + (1 - decay) × weights, from the initial weights and the first update on, as timm's
    ModelEma, which the paper's code uses. BN's counters of batches are copied.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        # listed once: training changes the tensors in place
        self.averages, self.weights = _columns([pair for pair in pairs if pair[0].is_floating_point()])
        self.copies, self.counters = _columns([pair for pair in pairs if not pair[0].is_floating_point()])

    @torch.no_grad()
    def update(self, skipped: Tensor | None = None) -> None:
        """Take in the weights after an update, unless ``skipped`` is 1 on the device."""
        if skipped is None:
            torch._foreach_lerp_(self.averages, self.weights, 1 - self.decay)
        else:
            shares = [(1 - skipped) * (1 - self.decay)] * len(self.weights)
            torch._foreach_lerp_(self.averages, self.weights, shares)
        if self.copies:
            torch._foreach_copy_(self.copies, self.counters)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.state_dict(keep_vars=True).values()]


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
