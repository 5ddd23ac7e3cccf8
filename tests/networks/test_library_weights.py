"""Weights of torchvision's and timm's caches: found where the libraries keep them, shown images as they say."""

import hashlib
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from safetensors.torch import save_file

from roadmap.errors import RequestError
from roadmap.networks.library_weights import library_weights
from roadmap.schema.baseline_model import BaselineModel

SMALL = BaselineModel(library="torchvision", name="shufflenet_v2_x0_5", options={})
TINY_VIT = BaselineModel(library="timm", name="test_vit", options={})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_torchvisions_weights_are_those_in_its_cache(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"shufflenetv2_x0\.5-f707e7126e\.pth does not exist; download it"):
        library_weights(SMALL)
    network = torchvision.models.shufflenet_v2_x0_5()
    file = hub / "shufflenetv2_x0.5-f707e7126e.pth"
    torch.save(network.state_dict(), file)
    with pytest.raises(RequestError, match="is damaged: its SHA-256 does not begin with f707e7126e"):
        library_weights(SMALL)
    monkeypatch.setattr("roadmap.networks.library_weights.file_digest", lambda file: "f707e7126e")
    weights = library_weights(SMALL)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(weights.make(64).eval()(images), network.eval()(images))
    assert (weights.name, weights.shown.image_size, weights.shown.crop_ratio) == ("IMAGENET1K_V1", 224, 0.875)
    assert (weights.shown.interpolation, weights.num_classes) == ("bilinear", 1000)
    assert weights.shown.mean == (0.485, 0.456, 0.406)
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
    assert (weights.shown.image_size, weights.shown.mean) == (config["input_size"][-1], config["mean"])
    resized = timm.data.create_transform(**config).transforms[0].size
    assert round(weights.shown.image_size / weights.shown.crop_ratio) == resized, "the same side before the crop"
    images = torch.rand(2, 3, 160, 160)
    assert torch.equal(weights.make(160).eval()(images), network.eval()(images))
    assert weights.make(192).eval()(torch.rand(1, 3, 192, 192)).shape == (1, 1000), "positions between the trained ones"
    with pytest.raises(RequestError, match=r"timm has no weights of 'test_vit\.other'"):
        library_weights(TINY_VIT, "other")
