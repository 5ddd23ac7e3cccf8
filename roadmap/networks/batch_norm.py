"""Batch normalization that does not depend on how a batch is split over passes and processes.

In training each group of consecutive images is normalized with its own statistics (ghost batches, arXiv:1705.08741).
The running statistics move once per update, towards the mean over all groups of the update.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from roadmap.errors import RequestError

ALIGNMENT = 16  # elements: kernels may load several at once


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d in ``groups`` equal groups of images, (N, C, H, W) to the same shape and memory format.

    In training ``RunningStatistics`` moves the running statistics. ``drop`` and ``act`` are those of timm's
    BatchNormAct2d. The state dict is that of ``norm``, whose parameters and buffers this module takes over.
    """

    # (groups, 2 P + 1), P being C rounded up: mean, unbiased variance and 1 for each group of the last pass
    latest: Tensor
    sums: Tensor  # of ``latest`` since the last update

    def __init__(self, norm: nn.BatchNorm2d, groups: int):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked  # counts updates
        self.drop, self.act = getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())
        assert norm.running_mean is not None
        self.padded = -(-norm.num_features // ALIGNMENT) * ALIGNMENT
        latest = norm.running_mean.new_zeros(groups, 2 * self.padded + ALIGNMENT)[:, : 2 * self.padded + 1]
        latest[:, -1] = 1
        self.register_buffer("latest", latest, persistent=False)
        self.register_buffer("sums", torch.zeros_like(latest[0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.act(self.drop(self.normalized(x, self.running_mean, self.running_var)))
        groups, parts = len(self.latest), []
        for part, latest in zip(x.chunk(groups), self.latest.unbind(), strict=True):
            parts.append(self.normalized(part, *self.mean_and_variance(latest)))
        self.sums.add_(self.latest[0] if groups == 1 else self.latest.sum(0))
        return self.act(self.drop(parts[0] if groups == 1 else torch.cat(parts)))

    def mean_and_variance(self, statistics: Tensor) -> list[Tensor]:
        """Return views of them, (C,) each, in a row of ``latest`` or in ``sums``."""
        return [statistics[start : start + self.num_features] for start in (0, self.padded)]

    def normalized(self, x: Tensor, mean: Tensor | None, variance: Tensor | None) -> Tensor:
        """Normalize by these statistics; in training by those of ``x``, which are written into them."""
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, self.training, 1.0, self.eps)


class RunningStatistics:
    """Moves the running statistics of a network's ghost batch norms once per update.

    ``sum_over_processes`` sums a tensor in place, so that the statistics are the same in all processes.
    """

    def __init__(self, network: nn.Module, sum_over_processes: Callable[[Tensor], Tensor] = lambda sums: sums):
        self.layers = [module for module in network.modules() if isinstance(module, GhostBatchNorm2d)]
        self.sum_over_processes = sum_over_processes
        if self.layers:
            self.sums = [layer.sums for layer in self.layers]
            self.running = [layer.get_buffer(name) for layer in self.layers for name in ("running_mean", "running_var")]
            self.momentum = [float(layer.momentum or 0) for layer in self.layers for _ in range(2)]
            self.updates = [layer.get_buffer("num_batches_tracked") for layer in self.layers]
            # the means over groups, of all layers in one tensor; with views of them, as fewer calls take less time
            self.means = torch.cat(self.sums)
            sizes = torch.tensor([len(sums) for sums in self.sums])
            self.counts = (sizes.cumsum(0) - 1).repeat_interleave(sizes).to(self.means.device)
            per_layer = zip(self.means.split(sizes.tolist()), self.layers, strict=True)
            self.targets = [part for means, layer in per_layer for part in layer.mean_and_variance(means)]

    def update(self, skipped: Tensor | None = None) -> None:
        """Move the running statistics by momentum towards the mean over all groups since the last call.

        If ``skipped`` is 1 on the device, forget these groups instead, whose statistics may not be finite.
        """
        if self.layers:
            self.sum_over_processes(torch.cat(self.sums, out=self.means))
            # a network may recompute activations, and so count some groups twice
            self.means.div_(self.means[self.counts])
            counted: int | list[Tensor] = 1
            if skipped is not None:
                self.replace_targets(skipped)
                counted = [1 - skipped.long()] * len(self.updates)
            torch._foreach_lerp_(self.running, self.targets, self.momentum)
            torch._foreach_add_(self.updates, counted)
            torch._foreach_zero_(self.sums)

    def replace_targets(self, skipped: Tensor) -> None:
        """If ``skipped`` is 1, let the statistics move to where they are, and take no NaN into the next pass."""
        for target, running in zip(self.targets, self.running, strict=True):
            target.copy_(torch.where(skipped.bool(), running, target))
        for layer in self.layers:
            layer.latest[:, :-1] = 0


def with_ghost_batches(network: nn.Module, groups: int) -> nn.Module:
    """Return the network with each batch norm normalizing in ``groups`` groups, in place but for a norm itself.

    Raises RequestError for other batch norms than torch's BatchNorm2d and timm's BatchNormAct2d.
    """
    made: dict[nn.Module, nn.Module] = {}  # a norm may have several places
    for parent in list(network.modules()):
        for name, module in parent._modules.items():
            if isinstance(module, _BatchNorm):
                made.setdefault(module, _ghost(module, groups))
                setattr(parent, name, made[module])
    return network


def _ghost(norm: _BatchNorm, groups: int) -> GhostBatchNorm2d:
    kind = type(norm).__name__
    if not isinstance(norm, nn.BatchNorm2d) or kind not in ("BatchNorm2d", "BatchNormAct2d"):
        raise RequestError(f"this network has {kind}, which is not supported (only BatchNorm2d and BatchNormAct2d are)")
    if norm.momentum is None or norm.running_mean is None:
        raise RequestError("this network's BatchNorm2d has no momentum or running statistics, which is not supported")
    return GhostBatchNorm2d(norm, groups)


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a network has batch norms of any kind."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())
