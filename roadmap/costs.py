"""What a network costs: multiply-accumulates, parameters, activations of one image. No data and no weights needed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

# Shapes pass through them unchanged and the counter gives them nothing; their meta kernels are Python, and three
# quarters of the time.
WITHOUT_MACS = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.GELU)


@dataclass(frozen=True)
class Cost:
    """Of one image.

    ``macs``: multiply-accumulates of convolutions and matrix products, what the paper calls FLOPs; ``params``:
    trainable parameters; ``activations``: elements that convolutions and linear layers put out, as pycls counts them
    (arXiv:2003.13678).
    """

    macs: int
    params: int
    activations: int

    @property
    def gmacs(self) -> float:
        """MACs ×10⁹, the "GFLOPs" of the paper's tables."""
        return self.macs / 1e9

    @property
    def params_m(self) -> float:
        """Parameters ×10⁶."""
        return self.params / 1e6


def cost(network: nn.Module, image_size: int = 224) -> Cost:
    """Count one ``image_size`` × ``image_size`` RGB image through ``network`` with torch's FLOP counter.

    Runs on the meta device whatever device the network is on: nothing is computed, nothing of the network changed.
    """
    meta = {name: tensor.to("meta") for name, tensor in [*network.named_parameters(), *network.named_buffers()]}
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    activations = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    skipped = [module for module in network.modules() if isinstance(module, WITHOUT_MACS)]
    modes = [(module, module.training) for module in network.modules()]
    counter = FlopCounterMode(display=False)
    network.eval()
    for module in skipped:
        module.forward = _identity  # type: ignore[assignment]
    try:
        with torch.no_grad(), counter:
            functional_call(network, meta, (image,))
    finally:
        for hook in hooks:
            hook.remove()
        for module in skipped:
            del module.forward
        for each, training in modes:
            each.training = training
    flops = counter.get_total_flops()
    # torch counts a multiply-accumulate as two operations
    return Cost(flops // 2, sum(p.numel() for p in network.parameters()), activations)


def _identity(x: Tensor) -> Tensor:
    return x
