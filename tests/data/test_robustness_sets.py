"""Robustness sets in their published layouts, of real small images; evaluation in parts; corruptions on the fly."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor

from roadmap.config import config_dir
from roadmap.config.compose import compose
from roadmap.data.corruptions import Corruption
from roadmap.data.eval_splits import eval_parts, open_part
from roadmap.data.memory import read_images
from roadmap.data.robustness_sets import Part, imagenet_classes
from roadmap.errors import RequestError
from roadmap.runtime.distributed import World
from roadmap.schema.corruptions import CORRUPTIONS, Corruptions
from roadmap.schema.experiment import Data, EvalSettings

SETTINGS = EvalSettings(
    image_size=32,
    crop_ratio=1.0,
    interpolation="bilinear",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    precision="fp32",
    channels_last=False,
    num_workers=0,
    batch_size=4,
)
SETS = ("imagenet_c", "imagenet_c_bar", "imagenet_folders", "imagenet_real", "cifar10_c", "cifar100_c")
WNIDS = {"n01440764": 0, "n01498041": 6, "n02123045": 281, "n15075141": 999}


@pytest.fixture(scope="module")
def configs() -> dict[str, Data]:
    """The record of each set, as its config file has it."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        nodes = {name: hydra_compose(f"data/{name}").data for name in (*SETS, "digits", "imagefolder")}
    for node in nodes.values():
        node.root = "?"
    return {name: Data.from_mapping(OmegaConf.to_container(node)) for name, node in nodes.items()}  # type: ignore[arg-type]


@cache
def photograph() -> np.ndarray:
    return load_sample_image("china.jpg")


def write_image(file: Path, label: int, number: int) -> None:
    """A part of a real photograph with its label as the grey level of a square in its middle."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = photograph()[3 * number : 3 * number + 64, 5 * number : 5 * number + 64].copy()
    pixels[16:48, 16:48] = label % 250
    Image.fromarray(pixels).save(file, "JPEG", quality=95)


def class_folders(root: Path, names: dict[str, int], images: int = 2, ending: str = "JPEG") -> None:
    for name, label in names.items():
        for number in range(images):
            write_image(root / name / f"{number}.{ending}", label, number)


def shown(part: Part, settings: EvalSettings = SETTINGS, world: World | None = None) -> tuple[Tensor, list[int]]:
    """A part's images as they are shown, values 0 to 1, and their labels."""
    batches = list(open_part(part, settings, 0, world or World(), torch.device("cpu")).batches())
    return torch.cat([images for images, _ in batches]), [label for _, labels in batches for label in labels.tolist()]


def assert_each_shows_its_label(part: Part) -> None:
    images, labels = shown(part)
    assert part.images == len(labels)
    middles = images[:, :, 14:18, 14:18].mean((1, 2, 3)) * 255
    np.testing.assert_allclose(middles, [label % 250 for label in labels], atol=2)


def test_imagenet_classes_equal_timms() -> None:
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    theirs = (Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    assert list(imagenet_classes()) == theirs
    assert len(theirs) == 1000


def test_robustness_sets_are_for_evaluation_only(configs: dict[str, Data]) -> None:
    assert {configs[name].corruptions for name in ("imagenet_c", "cifar10_c", "cifar100_c")} == {CORRUPTIONS}
    with pytest.raises(RequestError, match=r"data=imagenet_c is for evaluation only .*; choose a training set"):
        compose(["data=imagenet_c", "data.root=x"]).experiment()
    for change in ({"holdout": 0.1}, {"classes": 10}):
        with pytest.raises(RequestError, match=f"data.{next(iter(change))} does not go with data=imagenet_c"):
            configs["imagenet_c"].replace(**change)
    with pytest.raises(RequestError, match=r"data=imagenet_c is a robustness set and cannot be corrupted"):
        eval_parts(configs["imagenet_c"], 32, Corruptions())


def test_sets_with_fewer_classes_restrict_predictions(configs: dict[str, Data], tmp_path: Path) -> None:
    class_folders(tmp_path / "wnids", WNIDS, ending="jpg")
    (tmp_path / "wnids" / "README.txt").write_text("as in the release")
    # as in ImageNet-V2
    class_folders(tmp_path / "numbers", {str(number): number for number in (2, 10, 11)}, images=1, ending="jpeg")
    for name, classes, images in (("wnids", (0, 6, 281, 999), 2), ("numbers", (2, 10, 11), 1)):
        (part,) = eval_parts(configs["imagenet_folders"].replace(root=str(tmp_path / name)), 32)
        assert (part.name, part.num_classes, part.classes, part.accepted) == ("", 1000, classes, None)
        assert_each_shows_its_label(part)
        assert sorted(shown(part)[1]) == sorted(classes * images)


@pytest.mark.parametrize("name", ["imagenet_c", "imagenet_c_bar"])
def test_corruption_folders_are_read_in_parts(name: str, configs: dict[str, Data], tmp_path: Path) -> None:
    names = configs[name].corruptions[:2]
    data = configs[name].replace(root=str(tmp_path), images=8, corruptions=names, severities=(1, 5))
    for corruption in names:
        for severity in (1, 5):
            class_folders(tmp_path / corruption / str(severity), WNIDS)
    parts = eval_parts(data, 32)
    assert [part.name for part in parts] == [f"{corruption}/{severity}" for corruption in names for severity in (1, 5)]
    assert {(part.images, part.num_classes, part.classes) for part in parts} == {(8, 1000, None)}
    assert_each_shows_its_label(parts[-1])


def test_real_labels_accept_several_classes(configs: dict[str, Data], tmp_path: Path) -> None:
    numbers = {"n01440764": (3, 1), "n15075141": (2, 4)}
    for wnid, images in numbers.items():
        for number in images:
            write_image(tmp_path / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", WNIDS[wnid], number)
    real = [[0], [998, 999], [], [7]]
    (tmp_path / "real.json").write_text(json.dumps(real))
    data = configs["imagenet_real"].replace(root=str(tmp_path), images=4)
    (part,) = eval_parts(data, 32)
    # in the order of the files: image 1 of the first class, then 2 and 4; image 3 has no label
    assert part.accepted == (frozenset({0}), frozenset({998, 999}), frozenset({7}))
    assert (part.images, part.classes) == (3, None)
    assert shown(part)[1] == [0, 999, 999]
    assert_each_shows_its_label(part)
    for broken in (json.dumps(real[:3]), "{}", "[[1000]]", "[1]", "[["):
        (tmp_path / "real.json").write_text(broken)
        with pytest.raises(RequestError, match=r"real\.json"):
            eval_parts(data, 32)


def cifar_c(root: Path) -> np.ndarray:
    """Six real digits in CIFAR-C's format; each severity a grey level darker, so that an image tells it."""
    digits = load_digits()
    clean = np.repeat(digits.images[:6].repeat(4, 1).repeat(4, 2)[..., None] * 12, 3, axis=3)
    blocks = np.concatenate([clean + 2 * severity for severity in range(1, 6)]).astype(np.uint8)
    for name in CORRUPTIONS:
        np.save(root / f"{name}.npy", blocks)
    np.save(root / "labels.npy", np.tile(digits.target[:6], 5).astype(np.uint8))
    return blocks


def test_cifar_c_arrays_are_split_by_severity(configs: dict[str, Data], tmp_path: Path) -> None:
    blocks = cifar_c(tmp_path)
    parts = eval_parts(configs["cifar10_c"].replace(root=str(tmp_path), images=6), 32)
    assert [part.name for part in parts] == [f"{name}/{severity}" for name in CORRUPTIONS for severity in range(1, 6)]
    images, labels = shown(parts[7])
    assert parts[7].name == "shot_noise/3"
    np.testing.assert_allclose(images.permute(0, 2, 3, 1) * 255, blocks[12:18], atol=1e-3)
    assert labels == load_digits().target[:6].tolist()
    assert (parts[7].images, parts[7].num_classes) == (6, 10)


FEW = {"images": 6, "severities": (1,)}


@pytest.mark.parametrize(
    ("name", "folder", "changes", "words"),
    [
        ("imagenet_folders", "gone", {}, r"no images in \S+gone; it must contain class folders such as n01440764"),
        ("imagenet_folders", "short", {"images": 7500}, r"short has 4 images, but .* was published with 7,500"),
        ("imagenet_c", "short", {}, r"no images in \S+gaussian_noise/1"),
        ("imagenet_c", "short", {"corruptions": ()}, r"data\.corruptions and data\.severities must not be empty"),
        ("imagenet_c", "short", {"severities": (0, 1)}, r"data\.severities\[0\] must be at least 1"),
        ("imagenet_real", "short", {}, r"no images in \S+val"),
        ("cifar10_c", "arrays", {}, r"has 6 images, but data=cifar10_c was published"),
        ("cifar10_c", "arrays", FEW | {"corruptions": ("fog",)}, r"fog\.npy has uint8 \(29, 32, 32, 3\); it must have"),
        ("cifar10_c", "arrays", FEW | {"corruptions": ("snow",)}, r"cannot read \S+snow\.npy: it is missing or not"),
        ("cifar10_c", "arrays", FEW | {"num_classes": 3}, r"must have labels below 3 for five severities"),
    ],
)
def test_invalid_layouts_are_refused(
    name: str, folder: str, changes: dict, words: str, configs: dict[str, Data], tmp_path: Path
) -> None:
    class_folders(tmp_path / "short", WNIDS, images=1)
    (tmp_path / "arrays").mkdir()
    cifar_c(tmp_path / "arrays")
    np.save(tmp_path / "arrays" / "fog.npy", np.zeros((29, 32, 32, 3), np.uint8))
    (tmp_path / "arrays" / "snow.npy").write_bytes(b"no array")
    with pytest.raises(RequestError, match=words) as error:
        eval_parts(configs[name].replace(root=str(tmp_path / folder), **changes), 32)
    assert "\n" not in str(error.value)


def test_in_memory_images_are_corrupted_after_the_crop(configs: dict[str, Data]) -> None:
    request = Corruptions(names=("fog", "contrast"), severities=(2, 4), seed=3)
    settings = SETTINGS.replace(image_size=48, crop_ratio=0.8, batch_size=700)
    clean, *parts = eval_parts(configs["digits"], 48, request)
    assert [part.name for part in parts] == ["fog/2", "fog/4", "contrast/2", "contrast/4"]
    assert (clean.name, clean.images, clean.num_classes) == ("", 1200, 10)
    before, labels = shown(clean, settings)
    _, test = read_images(configs["digits"], 48)
    assert labels == test.labels.tolist()
    after, same = shown(parts[1], settings)
    assert same == labels
    assert after.shape == (1200, 3, 48, 48)
    for number in (0, 701, 1199):
        theirs = Corruption(request, "fog", 4)((before[number] * 255).round().byte(), number)
        assert torch.equal((after[number] * 255).round().byte(), theirs)


def test_image_files_are_corrupted_in_workers(configs: dict[str, Data], photo_folder: Path) -> None:
    data, request = configs["imagefolder"].replace(root=str(photo_folder)), Corruptions(severities=(3,))
    settings = SETTINGS.replace(image_size=96, crop_ratio=0.875, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    clean, *parts = eval_parts(data, 96, request)
    assert [part.name for part in parts][8] == "frost_synthetic/3"
    before, labels = shown(clean, settings)
    alone, _ = shown(parts[1], settings)
    in_workers = shown(parts[1], settings.replace(num_workers=2, batch_size=3))
    assert torch.equal(alone, in_workers[0])
    assert in_workers[1] == labels
    assert parts[1].images == len(labels) == 10
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.mean, settings.std))
    theirs = Corruption(request, "shot_noise", 3)(((before[7] * std + mean) * 255).round().byte(), 7)
    torch.testing.assert_close(alone[7] * std + mean, theirs / 255)


@pytest.mark.parametrize("source", ["digits", "imagefolder"])
def test_processes_divide_a_part(source: str, configs: dict[str, Data], photo_folder: Path) -> None:
    data = configs[source].replace(root=str(photo_folder))
    part = eval_parts(data, 32, Corruptions(names=("contrast",), severities=(5,)))[1]
    whole = shown(part)
    shares = [shown(part, world=World(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat([images for images, _ in shares]), whole[0])
    assert [label for _, labels in shares for label in labels] == whole[1]
    for processes in (2, 7, 16):
        worlds = (World(rank, processes) for rank in range(processes))
        batches = [open_part(part, SETTINGS, 0, world, torch.device("cpu")).indices for world in worlds]
        assert [int(index) for own in batches for batch in own for index in batch] == list(range(part.images))


def test_frost_folder_is_checked_before_evaluation(configs: dict[str, Data], tmp_path: Path) -> None:
    request = Corruptions(names=("frost",), severities=(5,), frost=str(tmp_path))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(RequestError, match=r"contains no photographs"):
        eval_parts(configs["digits"], 32, request)
    cv2.imwrite(str(tmp_path / "a.png"), photograph())
    clean, frosted = eval_parts(configs["digits"], 32, request)
    assert shown(frosted)[0].mean() > shown(clean)[0].mean()
