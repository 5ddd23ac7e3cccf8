"""Both ends of the road carry other code's weights and give its logits, in both memory formats."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import roadmap
from roadmap.errors import RequestError

RESNET50 = ["regime=tiny", "step=resnet50"]
CONVNEXT_T = ["regime=tiny", "step=separate_downsampling"]
ISOTROPIC = ["step=separate_downsampling", "recipe=isotropic"]


class OfficialBlock(nn.Module):
    """The block of facebookresearch/ConvNeXt, written anew from its description."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm of (N, C, H, W) over C, by its formula."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return self.weight[:, None, None] * (x - mean) / (variance + self.eps).sqrt() + self.bias[:, None, None]


class OfficialConvNeXt(nn.Module):
    """ConvNeXt-T under the official repository's names."""

    def __init__(self) -> None:
        super().__init__()
        dims = [96, 192, 384, 768]
        layers = [nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6))]
        layers += [nn.Sequential(ChannelNorm(d, eps=1e-6), nn.Conv2d(d, 2 * d, 2, 2)) for d in dims[:3]]
        self.downsample_layers = nn.ModuleList(layers)
        depths = (3, 3, 9, 3)
        self.stages = nn.ModuleList(
            nn.Sequential(*[OfficialBlock(d) for _ in range(n)]) for d, n in zip(dims, depths, strict=True)
        )
        self.norm = nn.LayerNorm(768, eps=1e-6)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean([-2, -1])))


class OfficialIsotropic(nn.Module):
    """The isotropic ConvNeXt under the official repository's names, with or without layer scale."""

    def __init__(self, dim: int, depth: int, *, scaled: bool):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 16, 16)
        self.blocks = nn.ModuleList([OfficialBlock(dim) for _ in range(depth)])
        for block in self.blocks if not scaled else ():
            del block.gamma
            block.gamma = 1.0
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean([-2, -1])))


def perturbed(network: nn.Module) -> nn.Module:
    """No tensor left at a value that would hide a mistake: layer scales near 1, statistics and biases not trivial."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "layer_scale" in name or "gamma" in name or name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim <= 1 and tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn_like(tensor))
    return network.eval()


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], int]] = {
    "torchvision ResNet-50": (torchvision.models.resnet50, RESNET50, 64),
    "torchvision ConvNeXt-T": (torchvision.models.convnext_tiny, CONVNEXT_T, 224),
    "timm ResNet-200": (lambda: timm.create_model("resnet200"), ["regime=base"], 64),
    "timm ConvNeXt-T": (lambda: timm.create_model("convnext_tiny"), CONVNEXT_T, 64),
    "timm ConvNeXt-T of convolutions": (lambda: timm.create_model("convnext_tiny", conv_mlp=True), CONVNEXT_T, 64),
    "official ConvNeXt-T": (OfficialConvNeXt, CONVNEXT_T, 64),
    "official isotropic ConvNeXt-S": (
        lambda: OfficialIsotropic(384, 18, scaled=False),
        [*ISOTROPIC, "size=iso_s"],
        64,
    ),
    "official isotropic ConvNeXt-L": (
        lambda: OfficialIsotropic(1024, 5, scaled=True),
        [*ISOTROPIC, "size=iso_l", "design.depths=[1,1,2,1]"],
        32,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_parameter_counts_are_equal(name: str) -> None:
    make, overrides, size = CASES[name]
    theirs, ours = perturbed(make()), roadmap.build(*overrides).eval()
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    roadmap.load_weights(ours, theirs.state_dict())
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        wanted = theirs(images)
        contiguous = ours(images)
        channels_last = ours.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    # float32 rounds at 6e-8 and other kernels add up in another order: at most 1e-6 of the largest logit was measured,
    # while two images differ by 1e-2 of it
    tolerance = 5e-6 * wanted.abs().max().item()
    torch.testing.assert_close(contiguous, wanted, rtol=0, atol=tolerance)
    torch.testing.assert_close(channels_last, wanted, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def convnext() -> dict[str, Tensor]:
    return perturbed(torchvision.models.convnext_tiny()).state_dict()


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    return torchvision.models.resnet50().state_dict()


def refused(overrides: list[str], state_dict: dict, message: str) -> None:
    network = roadmap.build(*overrides)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(RequestError, match=message) as error:
        roadmap.load_weights(network, state_dict)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items()), "nothing is loaded"


def test_missing_and_unexpected_keys_are_named(convnext: dict[str, Tensor], resnet: dict[str, Tensor]) -> None:
    partial = {key: tensor for key, tensor in convnext.items() if "classifier" not in key}
    missing = r"torchvision's ConvNeXt\) do not match .*missing norm\.weight, norm\.bias, head\.weight and 1"
    refused(CONVNEXT_T, partial, missing)
    refused(CONVNEXT_T, convnext | {"classifier.9.weight": torch.zeros(1)}, r"unexpected classifier\.9\.weight$")
    # one key of another naming would overwrite a tensor
    for key in ("head.weight", "module.fc.weight"):
        refused(RESNET50, resnet | {key: resnet["fc.weight"]}, rf"torchvision's ResNet\) .* unexpected {key}$")
    refused(RESNET50, convnext, "names of torchvision's ConvNeXt.* missing .* and 214 more; unexpected")
    refused([*CONVNEXT_T, "recipe=original"], convnext, "unexpected .* 15 more; layer scale is set by the recipe")
    refused(["regime=tiny", "step=enhanced_recipe"], resnet, "missing .* 13 more; layer scale is set by the recipe")


@pytest.mark.parametrize("key", ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"])
def test_one_missing_key_leaves_the_naming_recognised(key: str, resnet: dict[str, Tensor]) -> None:
    partial = {name: tensor for name, tensor in resnet.items() if name != key}
    refused(RESNET50, partial, r"names of torchvision's ResNet\) do not match the network: missing [a-z0-9._]+$")


def test_other_shapes_are_named(convnext: dict[str, Tensor]) -> None:
    head = {"classifier.2.weight": torch.zeros(10, 768), "classifier.2.bias": torch.zeros(10)}
    message = r"classifier\.2\.weight has shape \(10, 768\), expected \(1000, 768\), classifier\.2\.bias has shape"
    refused(CONVNEXT_T, convnext | head, message)
    # as many numbers, in another arrangement
    refused(CONVNEXT_T, convnext | {"classifier.2.weight": torch.zeros(768, 1000)}, r"has shape \(768, 1000\)")


@pytest.mark.parametrize("state_dict", [{}, {"epoch": 3}, {"model": {}}, {3: torch.zeros(1)}])
def test_other_dictionaries_are_refused(state_dict: dict) -> None:
    refused(["regime=nano"], state_dict, "not a state dict: ")


def test_unknown_names_are_refused() -> None:
    other = timm.create_model("vit_tiny_patch16_224").state_dict()
    refused(["regime=nano"], other, "unknown names cls_token, pos_embed, .* and 149 more")


def test_weights_are_copied_from_official_files_and_our_own() -> None:
    official = perturbed(OfficialConvNeXt()).state_dict()
    network, other = roadmap.build(*CONVNEXT_T), roadmap.build(*CONVNEXT_T)
    roadmap.load_weights(network, {"model": official})
    roadmap.load_weights(other, {f"module._orig_mod.{key}": tensor for key, tensor in network.state_dict().items()})
    official["head.bias"].zero_()
    state = network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in other.state_dict().items())
    assert state["head.bias"].abs().max() > 0, "weights are copied, not shared"


def test_counters_may_be_absent_from_old_checkpoints(resnet: dict[str, Tensor]) -> None:
    network = roadmap.build(*RESNET50)
    roadmap.load_weights(network, {key: tensor for key, tensor in resnet.items() if "num_batches" not in key})
    assert torch.equal(network.state_dict()["head.weight"], resnet["fc.weight"])


def test_dtype_and_memory_format_are_kept(convnext: dict[str, Tensor]) -> None:
    network = roadmap.build(*CONVNEXT_T).to(torch.bfloat16, memory_format=torch.channels_last)
    before = {name: (p.data_ptr(), p.dtype, p.stride()) for name, p in network.named_parameters()}
    roadmap.load_weights(network, convnext)
    assert {name: (p.data_ptr(), p.dtype, p.stride()) for name, p in network.named_parameters()} == before
    assert torch.equal(network.head.weight, convnext["classifier.2.weight"].bfloat16())
