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
from roadmap.data.corruptions.weather import Corruption
from roadmap.data.eval_splits import Part, corrupted_parts, open_parts
from roadmap.data.memory import read_images
from roadmap.data.robustness_sets import imagenet_classes
from roadmap.errors import RequestError
from roadmap.runtime.distributed import World
from roadmap.schema.corruptions import C_BAR, CORRUPTIONS, Corruptions
from roadmap.schema.eval_transform import EvalSettings
from roadmap.schema.experiment import Data

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
IMAGENET_SETS = ("imagenet_c", "imagenet_c_bar", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_v2")
WNIDS = {"n01440764": 0, "n01498041": 6, "n02123045": 281, "n15075141": 999}


@pytest.fixture(scope="module")
def configs() -> dict[str, Data]:
    """The record of each set, as its config file has it."""
    names = (*IMAGENET_SETS, "imagenet_real", "cifar10_c", "cifar100_c", "digits", "imagefolder")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        nodes = {name: hydra_compose(f"data/{name}").data for name in names}
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


def shown(part: Part) -> tuple[Tensor, list[int]]:
    """A part's images as they are shown, values 0 to 1, and their labels."""
    batches = list(part.open().batches())
    return torch.cat([images for images, _ in batches]), [label for _, labels in batches for label in labels.tolist()]


def middles(images: Tensor) -> list[int]:
    return (images[:, :, 14:18, 14:18].mean((1, 2, 3)) * 255).round().int().tolist()


def assert_each_shows_its_label(part: Part) -> None:
    images, labels = shown(part)
    assert part.images == len(labels)
    np.testing.assert_allclose(middles(images), [label % 250 for label in labels], atol=2)


def test_imagenet_classes_equal_timms() -> None:
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    theirs = (Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt").read_text().split()
    classes = list(imagenet_classes())
    assert classes == sorted(set(classes)) == theirs
    assert len(classes) == 1000
    assert {name: imagenet_classes()[name] for name in WNIDS} == WNIDS


def test_configs_list_the_published_corruptions(configs: dict[str, Data]) -> None:
    for name in ("imagenet_c", "cifar10_c", "cifar100_c"):
        assert configs[name].corruptions == CORRUPTIONS
    assert configs["imagenet_c_bar"].corruptions == C_BAR
    assert {name: configs[name].eval_crop_ratio for name in IMAGENET_SETS} == {
        name: 1.0 if name.startswith("imagenet_c") else None for name in IMAGENET_SETS
    }


@pytest.mark.parametrize("name", ["imagenet_c", "imagenet_real", "cifar10_c"])
def test_training_on_robustness_sets_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=rf"data={name} is for evaluation only .*; choose a training set"):
        compose([f"data={name}", "data.root=x"]).experiment()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"holdout": 0.1}, "data.holdout does not go with"), ({"classes": 10}, "data.classes does not go with")],
)
def test_robustness_sets_cannot_be_subsampled(configs: dict[str, Data], change: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        configs["imagenet_c"].replace(**change)


def test_sets_with_fewer_classes_restrict_predictions(configs: dict[str, Data], tmp_path: Path) -> None:
    class_folders(tmp_path, WNIDS, ending="jpg")
    (tmp_path / "README.txt").write_text("as in the release")
    for name in ("imagenet_a", "imagenet_r"):
        (part,) = open_parts(configs[name].replace(root=str(tmp_path), images=8), SETTINGS)
        assert (part.name, part.num_classes, part.classes, part.accepted) == ("", 1000, (0, 6, 281, 999), None)
        assert_each_shows_its_label(part)
        assert shown(part)[1] == [0, 0, 6, 6, 281, 281, 999, 999]


def test_numbered_folders_are_sorted_as_numbers(configs: dict[str, Data], tmp_path: Path) -> None:
    class_folders(tmp_path, {str(number): number for number in range(12)}, images=1, ending="jpeg")
    data = configs["imagenet_v2"].replace(root=str(tmp_path), images=12, num_classes=12)
    (part,) = open_parts(data, SETTINGS)
    assert part.classes is None
    # as words 10 and 11 would come before 2
    assert sorted(shown(part)[1]) == list(range(12))
    assert_each_shows_its_label(part)


@pytest.mark.parametrize("name", ["imagenet_c", "imagenet_c_bar"])
def test_corruption_folders_are_read_in_parts(name: str, configs: dict[str, Data], tmp_path: Path) -> None:
    data = configs[name].replace(root=str(tmp_path), images=8, severities=(1, 5))
    for corruption in data.corruptions:
        for severity in (1, 5):
            class_folders(tmp_path / corruption / str(severity), WNIDS)
    # their own crop ratio goes before the network's
    parts = open_parts(data, SETTINGS.replace(crop_ratio=0.5))
    assert [part.name for part in parts] == [f"{corruption}/{s}" for corruption in data.corruptions for s in (1, 5)]
    assert {(part.images, part.num_classes, part.classes) for part in parts} == {(8, 1000, None)}
    assert_each_shows_its_label(parts[-1])
    # by the network's own ratio nothing but the square in the middle would be shown
    assert shown(parts[0])[0][0, :, 0, 0].mean() > 0.5
    (wrong,) = open_parts(
        data.replace(corruptions=data.corruptions[:1], severities=(1,), eval_crop_ratio=None),
        SETTINGS.replace(crop_ratio=0.5),
    )
    assert shown(wrong)[0][0, :, 0, 0].mean() < 0.1
    (one,) = open_parts(data.replace(corruptions=data.corruptions[3:4], severities=(5,)), SETTINGS)
    assert one.name == f"{data.corruptions[3]}/5"


def test_real_labels_accept_several_classes(configs: dict[str, Data], tmp_path: Path) -> None:
    numbers = {"n01440764": (3, 1), "n15075141": (2, 4)}
    for wnid, images in numbers.items():
        for number in images:
            write_image(tmp_path / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", WNIDS[wnid], number)
    real = [[0], [998, 999], [], [7]]
    (tmp_path / "real.json").write_text(json.dumps(real))
    data = configs["imagenet_real"].replace(root=str(tmp_path), images=4)
    (part,) = open_parts(data, SETTINGS)
    # in the order of the files: image 1 of the first class, then 2 and 4; image 3 has no label
    assert part.accepted == (frozenset({0}), frozenset({998, 999}), frozenset({7}))
    assert (part.images, part.classes) == (3, None)
    assert shown(part)[1] == [0, 999, 999]
    assert_each_shows_its_label(part)
    (tmp_path / "real.json").write_text(json.dumps(real[:3]))
    with pytest.raises(RequestError, match=r"val_00000004\.JPEG is not in real\.json"):
        open_parts(data, SETTINGS)
    for broken in ("{}", "[[1000]]", "[1]", "[["):
        (tmp_path / "real.json").write_text(broken)
        with pytest.raises(RequestError, match=r"real\.json"):
            open_parts(data, SETTINGS)


def cifar_c(root: Path, images: int = 6) -> np.ndarray:
    """Real digits in CIFAR-C's format; each severity a grey level darker, so that an image tells it."""
    digits = load_digits()
    clean = np.repeat(digits.images[:images].repeat(4, 1).repeat(4, 2)[..., None] * 12, 3, axis=3)
    blocks = np.concatenate([clean + 2 * severity for severity in range(1, 6)]).astype(np.uint8)
    for name in CORRUPTIONS:
        np.save(root / f"{name}.npy", blocks)
    np.save(root / "labels.npy", np.tile(digits.target[:images], 5).astype(np.uint8))
    return blocks


def test_cifar_c_arrays_are_split_by_severity(configs: dict[str, Data], tmp_path: Path) -> None:
    blocks = cifar_c(tmp_path)
    parts = open_parts(configs["cifar10_c"].replace(root=str(tmp_path), images=6), SETTINGS)
    assert [part.name for part in parts] == [f"{name}/{severity}" for name in CORRUPTIONS for severity in range(1, 6)]
    images, labels = shown(parts[7])
    assert parts[7].name == "shot_noise/3"
    np.testing.assert_allclose(images.permute(0, 2, 3, 1) * 255, blocks[12:18], atol=1e-3)
    assert labels == load_digits().target[:6].tolist()
    assert (parts[7].images, parts[7].num_classes) == (6, 10)


def broken_layouts(tmp_path: Path) -> dict[str, tuple[str, dict, str]]:
    class_folders(tmp_path / "short", WNIDS, images=1)
    class_folders(tmp_path / "odd", WNIDS | {"cats": 5}, images=1)
    (tmp_path / "empty" / "n01440764").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "arrays").mkdir()
    cifar_c(tmp_path / "arrays")
    np.save(tmp_path / "arrays" / "fog.npy", np.zeros((29, 32, 32, 3), np.uint8))
    (tmp_path / "arrays" / "snow.npy").write_bytes(b"no array")
    few = {"images": 6, "severities": (1,)}
    return {
        "gone": ("imagenet_a", {}, r"gone/ is not a folder; it must be the unpacked imagenet_a"),
        "short": ("imagenet_a", {}, r"short has 4 images, but data=imagenet_a was published with 7,500"),
        "odd": ("imagenet_a", {}, r"unknown class folder \S+cats; names must be such as n01440764"),
        "empty": ("imagenet_a", {}, r"class folder \S+n01440764 has no images"),
        "none": ("imagenet_c", {}, r"no folder \S+gaussian_noise/1; data\.root must contain gaussian_noise/1"),
        "none/": ("imagenet_r", {}, r"no class folders in"),
        "arrays": (
            "cifar10_c",
            few | {"corruptions": ("fog",)},
            r"fog\.npy has uint8 \(29, 32, 32, 3\); it must have",
        ),
        "arrays/": ("cifar10_c", few | {"corruptions": ("snow",)}, r"cannot read \S+snow\.npy: it is not a complete"),
        "./arrays": (
            "cifar10_c",
            few | {"num_classes": 3, "corruptions": ("frost",)},
            r"requires labels below 3 for five severities",
        ),
        "arrays/.": ("cifar10_c", {"corruptions": ("frost",)}, r"has 6 images, but data=cifar10_c was published"),
        "./none": (
            "imagenet_c",
            {"severities": (0, 1)},
            r"data\.severities\[0\] must be at (least 1|most 5)",
        ),
        "././none": ("imagenet_c", {"corruptions": ()}, r"data\.corruptions must not be empty"),
        "./short": ("imagenet_real", {}, r"cannot read folder \S+val"),
    }


def test_invalid_layouts_are_refused(configs: dict[str, Data], tmp_path: Path) -> None:
    for folder, (name, changes, words) in broken_layouts(tmp_path).items():
        with pytest.raises(RequestError, match=words) as error:
            open_parts(configs[name].replace(root=str(tmp_path / folder) + "/", **changes), SETTINGS)
        assert "\n" not in str(error.value)


def test_plain_data_set_is_one_part(configs: dict[str, Data]) -> None:
    (part,) = open_parts(configs["digits"], SETTINGS.replace(batch_size=500))
    images, labels = shown(part)
    _, test = read_images(configs["digits"], 32)
    assert (part.name, part.images, part.num_classes) == ("", 1200, 10)
    assert labels == test.labels.tolist()
    assert torch.allclose(images * 255, test.pixels.float(), atol=1e-3)


def test_in_memory_images_are_corrupted_after_the_crop(configs: dict[str, Data]) -> None:
    request = Corruptions(names=("fog", "gaussian_noise"), severities=(2, 4), seed=3)
    settings = SETTINGS.replace(image_size=48, crop_ratio=0.8, batch_size=700)
    parts = corrupted_parts(configs["digits"], settings, request)
    assert [part.name for part in parts] == ["fog/2", "fog/4", "gaussian_noise/2", "gaussian_noise/4"]
    (clean,) = open_parts(configs["digits"], settings)
    before, labels = shown(clean)
    after, same = shown(parts[1])
    assert same == labels
    assert after.shape == (1200, 3, 48, 48)
    for number in (0, 701, 1199):
        pixels = np.ascontiguousarray((before[number] * 255).round().byte().permute(1, 2, 0).numpy())
        theirs = Corruption(request, "fog", 4)(pixels, number)
        assert np.array_equal((after[number] * 255).round().byte().permute(1, 2, 0).numpy(), theirs)


def test_image_files_are_corrupted_in_workers(configs: dict[str, Data], photo_folder: Path) -> None:
    data, request = configs["imagefolder"].replace(root=str(photo_folder)), Corruptions(severities=(3,))
    settings = SETTINGS.replace(image_size=96, crop_ratio=0.875, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    parts = corrupted_parts(data, settings, request)
    assert [part.name for part in parts][8] == "frost_synthetic/3"
    before, labels = shown(open_parts(data, settings)[0])
    alone = shown(parts[1])[0]
    in_workers = shown(corrupted_parts(data, settings.replace(num_workers=2, batch_size=3), request)[1])
    assert torch.equal(alone, in_workers[0])
    assert in_workers[1] == labels
    assert parts[1].images == len(labels) == 10
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.mean, settings.std))
    pixels = ((before[7] * std + mean) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    theirs = torch.from_numpy(Corruption(request, "shot_noise", 3)(pixels, 7)).permute(2, 0, 1)
    torch.testing.assert_close(alone[7] * std + mean, theirs / 255)


@pytest.mark.parametrize("source", ["digits", "imagefolder"])
def test_processes_divide_a_part(source: str, configs: dict[str, Data], photo_folder: Path) -> None:
    data = configs[source] if source == "digits" else configs[source].replace(root=str(photo_folder))
    request = Corruptions(names=("contrast", "impulse_noise"), severities=(5,))
    whole = shown(corrupted_parts(data, SETTINGS, request)[1])
    shares = [shown(corrupted_parts(data, SETTINGS, request, World(rank, 3))[1]) for rank in range(3)]
    assert torch.equal(torch.cat([images for images, _ in shares]), whole[0])
    assert [label for _, labels in shares for label in labels] == whole[1]


def test_robustness_sets_cannot_be_corrupted(configs: dict[str, Data]) -> None:
    with pytest.raises(RequestError, match=r"data=imagenet_c is a robustness set and cannot be corrupted"):
        corrupted_parts(configs["imagenet_c"], SETTINGS, Corruptions())


def test_frost_folder_is_checked_before_evaluation(configs: dict[str, Data], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no photographs"):
        corrupted_parts(configs["digits"], SETTINGS, Corruptions(names=("frost",), frost=str(tmp_path)))
    cv2.imwrite(str(tmp_path / "a.png"), photograph())
    parts = corrupted_parts(
        configs["digits"], SETTINGS, Corruptions(names=("frost",), severities=(5,), frost=str(tmp_path))
    )
    assert shown(parts[0])[0].mean() > shown(open_parts(configs["digits"], SETTINGS)[0])[0].mean()
