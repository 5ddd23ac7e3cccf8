"""Baseline models: what torchvision and timm make, under our recipe, in our trainer; and their pretrained weights."""

import hashlib
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from safetensors.torch import save_file
from timm.models import PretrainedCfg
from torchvision.ops import StochasticDepth

from roadmap.config.build import build, network_cost
from roadmap.config.compose import Composed, compose
from roadmap.errors import RequestError
from roadmap.networks.models import library_weights, undecayed
from roadmap.schema.design import BaselineModel
from roadmap.steps.path import compose_path
from roadmap.training.optim import build_optimizer


@pytest.fixture(scope="module")
def swin() -> Composed:
    return compose(["model=nano_swin"])


@pytest.mark.parametrize(
    ("overrides", "theirs"),
    [
        (["model=torchvision", "name=resnet18"], lambda: torchvision.models.resnet18(num_classes=10)),
        (["model=timm", "name=resnet10t"], lambda: timm.create_model("resnet10t", num_classes=10)),
        (["model=torchvision", "name=vit_b_32"], lambda: torchvision.models.vit_b_32(num_classes=10, image_size=32)),
        (
            ["model=timm", "name=vit_tiny_patch16_224"],
            lambda: timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32),
        ),
    ],
)
def test_a_library_makes_what_it_makes_elsewhere(overrides: list[str], theirs) -> None:
    """At the config's number of classes and image size, with the library's own initial weights of the same seed."""
    torch.manual_seed(0)
    ours = build(*overrides).eval()
    torch.manual_seed(0)
    other = theirs().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(ours(images), other(images))


def test_stochastic_depth_is_the_recipes() -> None:
    """torchvision's own builders rise from 0 to the rate that they are given; so does ours to the recipe's."""
    rates = {}
    for name, network in {
        "ours": build("model=torchvision", "name=swin_t", "regime=tiny", "recipe.network.stochastic_depth=0.4"),
        "theirs": torchvision.models.SwinTransformer(
            [4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], [7, 7], stochastic_depth_prob=0.4
        ),
    }.items():
        rates[name] = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates["ours"] == pytest.approx(rates["theirs"])
    assert rates["ours"][-1] == 0.4
    of_timm = build("model=nano_vit", "recipe.network.stochastic_depth=0.2")
    assert of_timm.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)


def test_the_head_starts_at_the_recipes_scale() -> None:
    heads = []
    for scale in ("1.0", "0.001"):
        torch.manual_seed(0)
        heads.append(build("model=torchvision", "name=resnet18", f"recipe.network.head_init_scale={scale}").fc.weight)
    torch.testing.assert_close(heads[1], heads[0] * 0.001)


def test_weight_decay_leaves_tables_of_positions_alone(swin: Composed) -> None:
    network = build("model=nano_swin")
    spared = {id(p) for group in build_optimizer(network, swin.recipe.optimizer).param_groups
              if not group["weight_decay"] for p in group["params"]}  # fmt: skip
    names = {name for name, parameter in network.named_parameters() if id(parameter) in spared}
    tables = {name for name in names if "relative_position_bias_table" in name}
    assert len(tables) == 6
    assert names - tables == {name for name, parameter in network.named_parameters() if parameter.ndim <= 1}
    assert undecayed(torchvision.models.vit_b_32()) == {"class_token", "encoder.pos_embedding"}
    assert undecayed(build("step=separate_downsampling")) == set()


def test_what_a_baseline_model_is_called_and_costs(swin: Composed) -> None:
    assert (swin.variant, swin.step, swin.recipe.name) == ("model=nano_swin", "model=nano_swin", "enhanced")
    assert swin.design.to_dict()["name"] == "swin_tiny_patch4_window7_224"
    # by hand, linear layers alone: patches, then a width of 24 to 192 on 64, 16, 4 and 1 pixels
    stages = [(24, 64, 1), (48, 16, 1), (96, 4, 3), (192, 1, 1)]
    macs = 24 * 48 * 64 + sum(12 * width**2 * pixels * depth for width, pixels, depth in stages) + 192 * 10
    macs += sum(4 * width * 2 * width * pixels for width, pixels in ((24, 16), (48, 4), (96, 1)))
    # attention: queries by keys and weights by values, in windows of 16 pixels where there are so many
    macs += sum(2 * width * pixels * min(pixels, 16) * depth for width, pixels, depth in stages)
    assert network_cost(swin).macs == macs
    named = compose(["model=timm", "+model.options.drop_rate=0.1", "name=resnet10t", "recipe.label_smoothing=0"])
    assert named.variant == "model=timm name=resnet10t model.options.drop_rate=0.1 recipe.label_smoothing=0"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=timm"], "name is not set (add name=…)"),
        (["model=timm", "name=resnet26e"], "timm has no classifier 'resnet26e'; did you mean"),
        (["model=torchvision", "name=swin"], "torchvision has no classifier 'swin'; did you mean"),
        (["model=nano_swin", "step=gelu"], "step=gelu does not go with model=: it changes our own network"),
        (["model=nano_swin", "design.width=3"], "design.width=3 does not go with model="),
        (["model=timm", "name=resnet10t", "+model.options.depht=3"], "timm cannot make resnet10t with these options: "),
        (
            ["model=torchvision", "name=resnet18", "recipe.network.stochastic_depth=0.1"],
            "recipe.network.stochastic_depth=0.1 does not go with torchvision's resnet18, which has none",
        ),
        (["name=resnet18"], "unknown setting 'name'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError) as error:
        build(*overrides)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_baseline_models_on_a_path(tmp_path: Path) -> None:
    """A baseline model takes the place of our network; what comes after it is on top of the last step adopted."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text(
        "name: mine\nsteps:\n  - step=layer_norm\n  - {change: model=nano_swin, adopted: false}\n"
        "  - downsampling=separate\n"
    )
    steps = compose_path(["path=mine", "+path.baselines=[nano_vit]"], [str(tmp_path)])
    assert [step.composed.variant for step in steps] == [
        "layer_norm",
        "model=nano_swin",
        "layer_norm downsampling=separate",
        "model=nano_vit",
    ]
    changes = [{}, {"model": "nano_swin"}, {"downsampling": "separate"}, {"model": "nano_vit"}]
    assert [step.changes for step in steps] == changes
    assert (steps[3].label, steps[3].parent, steps[3].adopted) == ("nano ViT", "downsampling=separate", False)


def test_without_timm_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError) as error:
        build("model=nano_vit")
    assert str(error.value) == "model.library=timm is not installed; pip install 'convnext-roadmap[timm]'"


SMALL = BaselineModel(library="torchvision", name="shufflenet_v2_x0_5", options={})
TINY_VIT = BaselineModel(library="timm", name="test_vit", options={})


def test_torchvisions_weights_are_those_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(RequestError, match=r"shufflenetv2_x0\.5-f707e7126e\.pth does not exist; download it"):
        library_weights(SMALL)
    network = torchvision.models.shufflenet_v2_x0_5()
    file = tmp_path / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth"
    torch.save(network.state_dict(), file)
    weights = library_weights(SMALL)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(weights.make(64).eval()(images), network.eval()(images))
    assert (weights.name, weights.transform.image_size, weights.transform.crop_ratio) == ("IMAGENET1K_V1", 224, 0.875)
    assert (weights.transform.interpolation, weights.num_classes) == ("bilinear", 1000)
    assert weights.transform.mean == (0.485, 0.456, 0.406)
    with pytest.raises(RequestError, match=r"no weights 'V3' of resnet50 \(choose IMAGENET1K_V1, IMAGENET1K_V2"):
        library_weights(BaselineModel(library="torchvision", name="resnet50", options={}), "V3")


def test_timms_weights_are_those_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match=r"models--timm--test_vit\.r160_in1k does not exist; download it"):
        library_weights(TINY_VIT)
    network = timm.create_model("test_vit")
    folder = tmp_path / "models--timm--test_vit.r160_in1k"
    commit = hashlib.sha1(b"").hexdigest()
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    save_file(network.state_dict(), folder / "snapshots" / commit / "model.safetensors")
    weights = library_weights(TINY_VIT)
    config = timm.data.resolve_model_data_config(network, use_test_size=True)
    assert (weights.transform.image_size, weights.transform.mean) == (config["input_size"][-1], config["mean"])
    resized = timm.data.create_transform(**config).transforms[0].size
    assert round(weights.transform.image_size / weights.transform.crop_ratio) == resized, (
        "the same side before the crop"
    )
    assert weights.transform.resize == "shorter_side"
    squashed = network.pretrained_cfg | {"crop_mode": "squash"}
    with monkeypatch.context() as patched:
        patched.setattr(timm, "get_pretrained_cfg", lambda name: PretrainedCfg(**squashed))
        assert library_weights(TINY_VIT).transform.resize == "squeeze"
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(weights.make(160).eval()(images), network.eval()(images))
    assert weights.make(192).eval()(torch.rand(1, 3, 192, 192)).shape == (1, 1000), "positions between the trained ones"
    with pytest.raises(RequestError, match=r"timm has no weights of 'test_vit\.other'"):
        library_weights(TINY_VIT, "other")
