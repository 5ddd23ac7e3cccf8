"""Training's loss against torch's."""

import pytest
import torch
from torch import nn

from roadmap.training.cross_entropy import CrossEntropyLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_loss_and_gradient_equal_torchs(kind: str, smoothing: float) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(64, 10)).requires_grad_()
    targets = torch.randint(10, (64,)) if kind == "labels" else torch.rand(64, 10).softmax(1)
    results = []
    for loss in (CrossEntropyLoss(label_smoothing=smoothing), nn.CrossEntropyLoss(label_smoothing=smoothing)):
        value = loss(logits, targets)
        results.append((value, *torch.autograd.grad(value, logits)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)
