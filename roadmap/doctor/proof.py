"""Correctness: what a CPU computes in fp32, the device must compute too, in every way that training computes it.

Networks whose outputs are compared have their vectors (norms, biases, layer scale, BN's statistics) redrawn first: as
they start, a layer scale of 1e-6 would hide everything that a block does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from roadmap.config.compose import compose
from roadmap.config.path import compose_path
from roadmap.data import open_loaders
from roadmap.doctor.checks import Check, Subject, Verdict
from roadmap.networks.builder import build, build_network
from roadmap.runtime.device import tf32
from roadmap.runtime.distributed import ALONE
from roadmap.runtime.stopping import StopRequest
from roadmap.training.assembly import build_trainer
from roadmap.training.trainer import Trainer

CPU = torch.device("cpu")
ENDS = ("step=resnet50", "step=separate_downsampling")
# BN with ReLU amplifies rounding: the CPU's own fp32 and fp64 are 44 % of the way apart after ten updates of the nano
# ResNet, when a value within rounding of zero is cut off in one of them only. In fp64 noise of 1e-15 ends 1e-9 apart.
IN_FP64 = (("step=resnet50",), ("step=enhanced_recipe",))  # SGD, AdamW
# smooth networks with LN: 6e-5 of the way apart; with activations of 10 bits, as in TF32, 6e-3
IN_FP32 = (("step=layer_norm",), ("step=separate_downsampling",), ("step=separate_downsampling", "recipe=original"))
# digits, ten updates, and nothing drawn on the device, whose random numbers are not the CPU's
PLAIN = (
    *("epochs=1", "batch_size=35", "recipe.augment.horizontal_flip=0", "recipe.augment.random_erasing=0"),
    *(f"recipe.augment.{key}=null" for key in ("mixup", "cutmix", "randaugment")),
    *("recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.crop_aspect=[1.0,1.0]"),
)
DECAY = 0.9
PIXELS = 64  # of the images that networks of 224 pixels are compared on

Batch = tuple[Tensor, Tensor]


def relative_error(reference: Tensor, tensor: Tensor) -> float:
    """The largest difference as a share of the reference's largest value; infinite where a value is no number."""
    one, other = reference.detach().double().cpu(), tensor.detach().double().cpu()
    if not (one.isfinite().all() and other.isfinite().all()):
        return float("inf")
    return ((one - other).abs().max() / one.abs().max().clamp_min(1e-30)).item()


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every vector redrawn: factors and variances within 0.5 to 1.5, the others within ±0.2."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.ndim == 1:
                drawn = torch.rand(tensor.shape, generator=generator)
                factor = name.endswith(("weight", "running_var"))
                tensor.copy_(drawn + 0.5 if factor else 0.4 * drawn - 0.2)
    return network


def placed(network: nn.Module, device: torch.device, memory_format: torch.memory_format) -> nn.Module:
    """The same network on a device."""
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]


def images(count: int, size: int) -> Tensor:
    """(count, 3, size, size), the same each time."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def logits(subject: Subject, regime: str = "tiny", tolerance: float = 1e-4) -> Verdict:
    """Every step's logits of two images, on the CPU in contiguous memory and on the device in channels_last.

    Rounding makes 1e-6 of the largest logit; TF32, which is off here, would make 2e-4 to 9e-4.
    """
    errors = {}
    batch = images(2, PIXELS)
    for step in compose_path([f"regime={regime}"]):
        torch.manual_seed(0)
        network = shaken(build_network(step.composed)).eval()
        with torch.inference_mode(), tf32(False):
            reference = network(batch)
            computed = placed(network, subject.device, torch.channels_last)(batch.to(subject.device))
        errors[step.name] = relative_error(reference, computed)
    return _all_within(errors, tolerance, f"{len(errors)} steps' logits, error relative to the largest")


def _all_within(errors: Mapping[str, float], tolerance: float, what: str) -> Verdict:
    worst = max(errors, key=lambda name: errors[name])
    sentence = f"{what}: at most {errors[worst]:.1e} ({worst}); allowed {tolerance:.0e}"
    return Verdict(errors[worst] <= tolerance, sentence, {"tolerance": tolerance, "errors": dict(errors)})


def trainer_on(device: torch.device, *overrides: str, double: bool = False) -> Trainer:
    """The trainer of a nano run of ten updates on digits; ``double``: its network computes in fp64."""
    experiment = compose([*PLAIN, *overrides]).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, device), device, ALONE, StopRequest())
    if double:
        network = trainer.network.double()
        # what it keeps of each weight takes on the weight's precision
        trainer.optimizer.load_state_dict(trainer.optimizer.state_dict())
        trainer.forward = lambda batch: network(batch.double())
    return trainer


def ten_updates(trainer: Trainer, batches: Iterable[Batch], after: Callable[[], None] = lambda: None) -> Tensor:
    """Train on batches from any device; the losses (10,). ``after`` is called after each update."""
    trainer.network.train()
    losses = []
    for batch, labels in batches:
        losses.append(trainer.backward(batch.to(trainer.device), labels.to(trainer.device), last=True))
        trainer.update(losses[-1:])
        after()
    return torch.stack(losses)


def flat(network: nn.Module) -> Tensor:
    """All parameters in one vector, on the CPU."""
    return torch.cat([parameter.detach().flatten().cpu().double() for parameter in network.parameters()])


def batches(subject: Subject) -> Verdict:
    """The loader's batches of an epoch of digits, cropped and normalised on the device."""
    pairs = zip(trainer_on(CPU).train.batches(0), trainer_on(subject.device).train.batches(0), strict=True)
    errors = {f"batch {i}": relative_error(one[0], other[0]) for i, (one, other) in enumerate(pairs, 1)}
    return _all_within(errors, 1e-5, "an epoch's batches from the loader on the device")


def updates(subject: Subject, requests: Sequence[tuple[str, ...]], *, double: bool) -> Verdict:
    """Ten updates from the same start on the same batches: each loss, and where the weights end by the way they went.

    ``double`` is in fp64, where rounding hides nothing.
    """
    allowed_loss, allowed_way = (1e-6, 1e-6) if double else (1e-4, 2e-3)
    losses, ways = {}, {}
    for request in requests:
        reference, other = (trainer_on(device, *request, double=double) for device in (CPU, subject.device))
        taken = list(reference.train.batches(0))
        start = flat(reference.network)
        with tf32(False):
            expected, found = ten_updates(reference, taken), ten_updates(other, taken)
        name, end = " ".join(request), flat(reference.network)
        losses[name] = relative_error(expected, found)
        ways[name] = ((flat(other.network) - end).norm() / (end - start).norm()).nan_to_num(torch.inf).item()
    loss, way = max(losses.values()), max(ways.values())
    return Verdict(
        loss <= allowed_loss and way <= allowed_way,
        f"losses at most {loss:.1e} apart (allowed {allowed_loss:.0e}), weights {way:.1e} of the way they went "
        f"(allowed {allowed_way:.0e}); {len(requests)} kinds of runs",
        {"allowed": {"loss": allowed_loss, "weights": allowed_way}, "losses": losses, "weights": ways},
    )


def autocast(subject: Subject, precision: str) -> Verdict:
    """Ten updates in a lower precision beside fp32's, both on the device; fp16 with its scaler."""
    trainers = [trainer_on(subject.device, ENDS[1], *more) for more in ((), (f"precision={precision}",))]
    with tf32(False):
        expected, found = (ten_updates(trainer, trainer.train.batches(0)) for trainer in trainers)
    return _all_within({precision: relative_error(expected, found)}, 0.02, "ten updates' losses beside those of fp32")


def scaler(subject: Subject) -> Verdict:
    """In fp16 an update with an infinite gradient must leave weights and optimizer alone; the next must move them.

    The spoilt update is the first after one that moved them: the scaler may have to come down from its start first,
    and AdamW's first learning rate is zero.
    """
    found = {recipe: _spoilt_update(subject, recipe) for recipe in ("original", "enhanced")}
    return Verdict(
        all(one == {"moved": [False, True], "scales": [0.5, 1.0], "finite": True} for one in found.values()),
        "an infinite gradient in one update, then none: "
        + "; ".join(
            f"{recipe} moved {one['moved']}, scale times {one['scales']}, {'' if one['finite'] else 'not '}finite"
            for recipe, one in found.items()
        ),
        found,
    )


def _spoilt_update(subject: Subject, recipe: str) -> dict[str, Any]:
    """Of the spoilt update and the next: what moved, by what the scale changed; and whether all is finite then."""
    trainer = trainer_on(subject.device, ENDS[1], f"recipe={recipe}", "precision=fp16")
    moved: list[bool] = []
    scales: list[float] = []
    spoilt = None
    for number, (batch, labels) in enumerate(trainer.train.batches(0)):
        before, scale = _held(trainer), trainer.scaler.get_scale()
        loss = trainer.backward(batch, labels, last=True)
        if spoilt is None and moved[-1:] == [True]:
            spoilt, gradient = number, next(trainer.network.parameters()).grad
            assert gradient is not None
            gradient[0] = torch.inf
        trainer.update([loss])
        moved.append(not torch.equal(before, _held(trainer)))
        scales.append(trainer.scaler.get_scale() / scale)
        if spoilt is not None and number > spoilt:
            break
    finite = bool(_held(trainer).isfinite().all())
    last = slice(spoilt, None) if spoilt is not None else slice(0)
    return {"moved": moved[last], "scales": scales[last], "finite": finite}


def _held(trainer: Trainer) -> Tensor:
    """All that an update changes: weights, and what the optimizer keeps."""
    return torch.cat([flat(trainer.network), *(one.flatten().cpu().double() for one in tensors(trainer.optimizer))])


def tensors(value: Any) -> list[Tensor]:
    """The tensors of floating point in an optimizer, a state dict or a part of one."""
    if isinstance(value, torch.optim.Optimizer):
        value = value.state_dict()
    if isinstance(value, Mapping):
        return [tensor for part in value.values() for tensor in tensors(part)]
    return [value] if isinstance(value, Tensor) and value.is_floating_point() else []


def passes(forward: Callable[[Tensor], Tensor], network: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a batch and, in one vector on the CPU, the gradients of a loss."""
    logits = forward(batch)
    labels = torch.arange(len(batch), device=batch.device)
    nn.functional.cross_entropy(logits, labels).backward()
    gradients = [p.grad.flatten().cpu().double() for p in network.parameters() if p.grad is not None]
    network.zero_grad(set_to_none=True)
    return logits.detach(), torch.cat(gradients)


def _same_passes(subject: Subject, regime: str, other: Callable[[nn.Module], nn.Module], what: str) -> Verdict:
    """Both ends of the road against what ``other`` makes of them: logits, and gradients by the norm of all.

    One value cut off by ReLU in one of them only made 7e-3 of a nano ResNet's gradients.
    """
    logit_errors, gradient_errors = {}, {}
    batch = images(4, PIXELS).to(subject.device)
    for step in ENDS:
        torch.manual_seed(0)
        network = placed(shaken(build(f"regime={regime}", step)).eval(), subject.device, torch.contiguous_format)
        with tf32(False):
            expected, slopes = passes(network, network, batch)
            changed = other(network)
            found, found_slopes = passes(changed, network, batch)
        logit_errors[step] = relative_error(expected, found)
        gradient_errors[step] = ((slopes - found_slopes).norm() / slopes.norm()).nan_to_num(torch.inf).item()
    logit, gradient = max(logit_errors.values()), max(gradient_errors.values())
    return Verdict(
        logit <= 1e-4 and gradient <= 2e-2,
        f"{what}: logits at most {logit:.1e} apart (allowed 1e-04), gradients {gradient:.1e} (allowed 2e-02)",
        {"logits": logit_errors, "gradients": gradient_errors},
    )


def channels_last(subject: Subject, regime: str = "tiny") -> Verdict:
    """Both memory formats on the device."""
    return _same_passes(
        subject, regime, lambda network: placed(network, subject.device, torch.channels_last), "beside contiguous"
    )


def compiled(subject: Subject) -> Verdict:
    """torch.compile and eager on the device."""
    torch.compiler.reset()
    # mypy takes what torch.compile returns for a function
    return _same_passes(subject, "nano", lambda network: torch.compile(network), "beside eager")  # type: ignore[arg-type, return-value]


def average(subject: Subject) -> Verdict:
    """The average of weights and BN's statistics over ten updates on the device, and the same by hand in fp64."""
    trainer = trainer_on(subject.device, ENDS[0], f"recipe.ema_decay={DECAY}")
    by_hand: dict[str, Tensor] = {}

    def follow() -> None:
        for name, tensor in trainer.network.state_dict().items():
            if tensor.is_floating_point():
                now = tensor.detach().cpu().double()
                by_hand[name] = DECAY * by_hand[name] + (1 - DECAY) * now if name in by_hand else now

    ten_updates(trainer, trainer.train.batches(0), follow)
    assert trainer.ema is not None
    kept = trainer.ema.module.state_dict()
    errors = {name: relative_error(tensor, kept[name]) for name, tensor in by_hand.items()}
    return _all_within(errors, 1e-5, f"{len(errors)} tensors' averages")


CHECKS = (
    Check("logits", logits),
    Check("batches", batches),
    Check("ten updates in fp64", partial(updates, requests=IN_FP64, double=True)),
    Check("ten updates in fp32", partial(updates, requests=IN_FP32, double=False)),
    Check("bf16", partial(autocast, precision="bf16")),
    Check("fp16", partial(autocast, precision="fp16")),
    Check("scaler", scaler),
    Check("channels_last", channels_last),
    Check("compile", compiled),
    Check("EMA", average),
)
