"""What a built network costs, by torch's own counter; ``roadmap.networks.flops`` does without torch."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from roadmap.networks.flops import Cost

# Shapes pass through them unchanged and the counter gives them nothing; their meta kernels are Python, and three
# quarters of the time.
WITHOUT_MACS = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.GELU)


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
