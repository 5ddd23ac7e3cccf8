"""torchvision's classification sets: read, split and labelled as published."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from scipy.io import savemat

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.readers import read_files
from roadmap.errors import RequestError
from roadmap.schema.torchvision_sets import TORCHVISION_SETS

CPU = torch.device("cpu")


def experiment(*overrides: str):
    return compose(list(overrides)).experiment()


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.astype(np.uint8).tobytes()


def fake_set(name: str, root: Path, patch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Files of 50 and 20 noise images in a set's own format; the images (N, H, W, 3) and labels of its parts."""
    draw, parts = np.random.default_rng(0), {}
    for part, count in (("train", 50), ("test", 20)):
        side = {"FashionMNIST": 28, "SVHN": 32, "STL10": 96, "EuroSAT": 64}[name]
        images, labels = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8), np.arange(count) % 10
        if name == "FashionMNIST":
            images[:] = images[..., :1]
            (root / name / "raw").mkdir(parents=True, exist_ok=True)
            short = {"train": "train", "test": "t10k"}[part]
            (root / name / "raw" / f"{short}-images-idx3-ubyte").write_bytes(idx(images[..., 0]))
            (root / name / "raw" / f"{short}-labels-idx1-ubyte").write_bytes(idx(labels))
        elif name == "SVHN":
            patch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
            digits = np.where(labels == 0, 10, labels)[:, None]
            savemat(root / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": digits})
        elif name == "STL10":
            patch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
            (root / "stl10_binary").mkdir(exist_ok=True)
            (root / "stl10_binary" / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
            (root / "stl10_binary" / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
        elif part == "train":
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                folder = root / "eurosat" / "2750" / f"class{label}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{number:02}.png")
        parts[part] = images, labels
    return parts


@pytest.mark.parametrize(("name", "size"), [("FashionMNIST", 48), ("SVHN", 32), ("STL10", 48)])
def test_torchvisions_sets_are_read(name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = fake_set(name, tmp_path, monkeypatch)
    words = ["data=torchvision", f"data.name={name}", f"data.root={tmp_path}", f"image_size={size}", "batch_size=8"]
    split = read_files(experiment(*words).data)
    for samples, part in ((split.train, "train"), (split.val, "test")):
        images, labels = parts[part]
        assert samples.labels.tolist() == labels.tolist()
        assert np.array_equal(np.stack([samples.read(index) for index in range(len(labels))]), images)
    loaders = open_loaders(experiment(*words, "data.train_images=20"), CPU)
    pixels = loaders.train.source.images.pixels
    assert (len(pixels), loaders.val_images, loaders.num_classes) == (20, 20, 10)
    if name == "SVHN":
        kept = pixels.permute(0, 2, 3, 1).numpy()
        assert {*map(bytes, kept)} <= {*map(bytes, parts["train"][0])}
        files = open_loaders(experiment(*words, "in_memory=false", "num_workers=1"), CPU)
        assert torch.equal(*(torch.cat([images for images, _ in each.val.batches()]) for each in (files, loaders)))
        assert sum(len(labels) for _, labels in files.train.batches(0)) == 48


def test_eurosat_has_a_fixed_stratified_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_set("EuroSAT", tmp_path, monkeypatch)
    data = experiment("data=torchvision", "data.name=EuroSAT", f"data.root={tmp_path}").data
    first, again = ([split.train, split.val] for split in (read_files(data), read_files(data)))
    names = [[[part.name(index) for index in range(len(part.labels))] for part in split] for split in (first, again)]
    assert names[0] == names[1]
    assert [len(part) for part in names[0]] == [40, 10]
    assert len({*names[0][0], *names[0][1]}) == 50
    assert set(np.bincount(first[0].labels)) == {4}


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_torchvision_accepts_the_arguments_of_each_set(name: str) -> None:
    """Each set fails only because its files are missing: a wrong split would be a ValueError or TypeError."""
    known, kind = TORCHVISION_SETS[name], getattr(torchvision.datasets, name)
    for arguments in (known.train, known.val or {}):
        with pytest.raises((RuntimeError, FileNotFoundError)):
            kind("/nowhere/at/all", **arguments, download=False)
    data = experiment("data=torchvision", f"data.name={name}").data
    assert (data.num_classes, data.mean, data.std) == (known.num_classes, known.mean, known.std)


@pytest.mark.parametrize("step", ["resnet50", "separate_downsampling"])
def test_torchvisions_sets_have_cifars_recipes(step: str) -> None:
    cifar = experiment("data=cifar10", f"step={step}").recipe
    for name, flip in (("STL10", 0.5), ("SVHN", 0.0)):
        recipe = experiment("data=torchvision", f"data.name={name}", f"step={step}").recipe
        assert recipe == cifar.replace(augment=cifar.augment.replace(horizontal_flip=flip))


def test_requests_for_torchvisions_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"unknown data\.name 'SVHM' .*\(choose CIFAR10, .*, USPS\)"):
        experiment("data=torchvision", "data.name=SVHM")
    with pytest.raises(RequestError, match=r"data\.name"):
        experiment("data=torchvision")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", offline)
    message = rf"^SVHN is not in data\.root={tmp_path} and could not be downloaded \(.*no network.*\); put it there"
    with pytest.raises(RequestError, match=message):
        read_files(experiment("data=torchvision", "data.name=SVHN", f"data.root={tmp_path}").data)
    asked, moved = (experiment("data=torchvision", "data.name=SVHN", f"data.root={root}") for root in ("a", "b"))
    assert asked.run_id == moved.run_id != experiment("data=torchvision", "data.name=MNIST").run_id
    assert experiment("data=torchvision", "data.name=SVHN", "data.std=[1,1,1]").data.std == (1, 1, 1)
