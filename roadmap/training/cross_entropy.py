"""The loss of training."""

import torch
from torch import Tensor, nn


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch's mean over images (n, classes), which for probabilities calls half as many operators."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of labels (n,) or probabilities (n, classes)."""
        if not targets.is_floating_point():
            return super().forward(logits, targets)
        images, classes = logits.shape
        smoothing = self.label_smoothing
        weights = torch.rsub(targets, -smoothing / (classes * images), alpha=(1 - smoothing) / images)
        return logits.log_softmax(1).flatten().dot(weights.flatten())
