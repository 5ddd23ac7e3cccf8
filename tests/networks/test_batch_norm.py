"""Ghost batch normalization against torch's, group by group."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.errors import RequestError
from roadmap.networks.batch_norm import GhostBatchNorm2d, RunningStatistics, with_ghost_batches
from roadmap.runtime.distributed import World
from roadmap.training.build import build_trainer

CPU = torch.device("cpu")
CHANNELS, IMAGES, GROUPS = 5, 6, 3


def norm() -> nn.BatchNorm2d:
    """A norm with weights and running statistics of its own."""
    torch.manual_seed(1)
    made = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.3)
    for tensor in (made.weight, made.bias, made.running_mean, made.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 1.5)
    return made


def images(groups: int = GROUPS, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    torch.manual_seed(2)
    made = torch.randn(groups * IMAGES, CHANNELS, 4, 3) * torch.arange(1, groups * IMAGES + 1).view(-1, 1, 1, 1)
    return made.to(memory_format=memory_format)


def ghost(groups: int = GROUPS) -> tuple[nn.Sequential, RunningStatistics]:
    network = nn.Sequential(norm())
    with_ghost_batches(network, groups)
    return network, RunningStatistics(network)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_each_group_is_normalised_as_a_batch_of_its_own(memory_format: torch.memory_format) -> None:
    """Outputs, gradients and running statistics, which move once, towards the mean over the groups."""
    network, statistics = ghost()
    x, x_by_hand = (images(memory_format=memory_format).requires_grad_() for _ in range(2))
    before, plain = norm(), norm()
    factors = torch.randn_like(x)
    output = network(x)
    (output * factors).sum().backward()
    by_hand = torch.cat([plain(part) for part in x_by_hand.split(IMAGES)])
    (by_hand * factors).sum().backward()
    torch.testing.assert_close(output, by_hand)
    torch.testing.assert_close(x.grad, x_by_hand.grad)
    torch.testing.assert_close(network[0].weight.grad, plain.weight.grad)
    torch.testing.assert_close(network[0].bias.grad, plain.bias.grad)
    assert output.is_contiguous(memory_format=memory_format)

    assert torch.equal(network[0].running_mean, before.running_mean), "nothing moves before the end of the update"
    statistics.update()
    groups = x.detach().split(IMAGES)
    mean = torch.stack([group.mean((0, 2, 3)) for group in groups]).mean(0)
    variance = torch.stack([group.var((0, 2, 3), correction=1) for group in groups]).mean(0)
    torch.testing.assert_close(network[0].running_mean, 0.7 * before.running_mean + 0.3 * mean)
    torch.testing.assert_close(network[0].running_var, 0.7 * before.running_var + 0.3 * variance)
    assert network[0].num_batches_tracked == 1


def test_one_group_is_torchs_batch_norm() -> None:
    (network, statistics), plain = ghost(groups=1), norm()
    for factor in (1, 3):
        x = images(groups=1) * factor
        assert torch.equal(network(x), plain(x))
        statistics.update()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(network[0].state_dict()[name], tensor, rtol=1e-6, atol=0)
    assert list(network[0].state_dict()) == list(plain.state_dict())
    network.eval()
    plain.load_state_dict(network[0].state_dict())
    assert torch.equal(network(x), plain.eval()(x))


def test_statistics_do_not_depend_on_passes_processes_and_recomputation() -> None:
    (whole, statistics), x = ghost(), images()
    whole(x)
    statistics.update()
    parts, of_parts = ghost(groups=1)
    for part in x.split(IMAGES):
        parts(part)
        parts(part)  # as activation checkpointing does
    of_parts.update()
    torch.testing.assert_close(parts[0].state_dict(), whole[0].state_dict())

    processes = [ghost(groups=1)[0] for _ in range(GROUPS)]
    for process, part in zip(processes, x.split(IMAGES), strict=True):
        process(part)
    total = sum(process[0].sums for process in processes)
    RunningStatistics(processes[0], lambda sums: sums.copy_(total)).update()
    torch.testing.assert_close(processes[0][0].state_dict(), whole[0].state_dict())


def test_skipped_update_leaves_no_trace() -> None:
    (network, statistics), before = ghost(), norm()
    network(images() * torch.nan)
    statistics.update(skipped=torch.ones(()))
    torch.testing.assert_close(network[0].state_dict(), before.state_dict())
    (other, of_other), x = ghost(), images()
    for each, its in ((network, statistics), (other, of_other)):
        each(x)
        its.update(skipped=torch.zeros(()) if its is statistics else None)
    torch.testing.assert_close(network[0].state_dict(), other[0].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_as_one_graph(autocast: bool) -> None:
    def passed(compiled: Callable[[nn.Module], nn.Module]) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False), norm()).to(
            memory_format=torch.channels_last
        )
        with_ghost_batches(network, GROUPS)
        forward, statistics = compiled(network), RunningStatistics(network)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                output = forward(images())
            output.float().square().mean().backward()
            assert output.is_contiguous(memory_format=torch.channels_last)
            assert output.dtype == (torch.bfloat16 if autocast else torch.float32)
            statistics.update()
        gradients = {f"{name}.grad": p.grad for name, p in network.named_parameters() if p.grad is not None}
        return network.state_dict() | gradients | {"output": output.detach()}

    eager = passed(lambda network: network)
    compiled = passed(lambda network: torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False))
    torch.testing.assert_close(compiled, eager, **({"rtol": 0.02, "atol": 0.02} if autocast else {}))


def test_norms_of_torchvision_and_timm_are_replaced() -> None:
    """A norm's activation stays; one group gives the library's own outputs."""
    timm = pytest.importorskip("timm")
    for make in (
        lambda: torchvision.models.resnet18(num_classes=4),
        lambda: timm.create_model("regnety_002", num_classes=4),
        lambda: timm.create_model("efficientnet_b0", num_classes=4, drop_rate=0.0),
    ):
        torch.manual_seed(0)
        theirs = make().train()
        ours = with_ghost_batches(copy.deepcopy(theirs), groups=1)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        kinds = {type(module) for module in ours.modules() if isinstance(module, nn.BatchNorm2d)}
        assert kinds == {GhostBatchNorm2d}
        x = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(ours(x), theirs(x))
        RunningStatistics(ours).update()
        for name, tensor in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.BatchNorm1d(3), "this network has BatchNorm1d, which is not supported"),
        (nn.BatchNorm2d(3, momentum=None), "this network's BatchNorm2d has no momentum or running statistics"),
    ],
)
def test_other_norms_are_refused(other: nn.Module, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        with_ghost_batches(nn.Sequential(other), 2)


def test_baseline_model_with_batch_norm_needs_whole_groups() -> None:
    """Whether it has BN is known when it is built; a Swin takes any part of the batch."""
    request = ["recipe=original", "recipe.network.stochastic_depth=0", "batch_size=48", "recipe.batch_norm_images=32"]
    for model, refused in (("resnet18", True), ("nano_vit", False)):
        experiment = compose([f"model={model}", *request]).experiment()
        loaders = open_loaders(experiment, CPU, World(0, 2))
        assert loaders.train.share.micro_batch_size == 24
        if refused:
            with pytest.raises(RequestError, match=r"batch_size=48 must be a multiple of recipe.batch_norm_images=32"):
                build_trainer(experiment, loaders, CPU)
        else:
            build_trainer(experiment, loaders, CPU)


def test_statistics_are_aligned_for_any_number_of_channels() -> None:
    """To 64 bytes from the buffer's start, as a norm's own are: GPU kernels load several values at once."""
    layer = GhostBatchNorm2d(norm(), GROUPS)
    starts = [
        part.data_ptr() - layer.latest.data_ptr() for row in layer.latest for part in layer.mean_and_variance(row)
    ]
    assert all(start % 64 == 0 for start in starts)
    assert len(set(starts)) == 2 * GROUPS
