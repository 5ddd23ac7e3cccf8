"""Images in memory: those of digits and CIFAR, and files decoded once."""

import io
import os
import pickle
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from roadmap.config.compose import compose
from roadmap.data import memory, open_loaders
from roadmap.data.memory import read_images
from roadmap.errors import RequestError

CPU = torch.device("cpu")
FILES = "in_memory=false"
SMALL = ["batch_size=8", "image_size=48", "num_workers=0", "recipe=enhanced"]


def experiment(*overrides: str):
    return compose(list(overrides)).experiment()


def test_digits_split_is_fixed_stratified_and_disjoint() -> None:
    train, test = read_images(experiment().data, 8)
    again, _ = read_images(experiment("seed=1").data, 8)
    assert (len(train), len(test)) == (358, 1200)
    assert torch.equal(train.pixels, again.pixels)
    shares = [torch.bincount(images.labels) / len(images) for images in (train, test)]
    torch.testing.assert_close(*shares, atol=0.005, rtol=0)
    # scikit-learn's images, unchanged but for the scale, none of them twice
    ours = Counter(map(bytes, torch.cat([train.pixels, test.pixels])[:, 0].flatten(1).numpy()))
    theirs = Counter(map(bytes, np.round(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, 64)))
    assert ours <= theirs


def test_holdout_does_not_use_test_images() -> None:
    train, _ = read_images(experiment().data, 8)
    kept, held_out = read_images(experiment("data.holdout=0.2").data, 8)
    assert (len(kept), len(held_out)) == (286, 72)
    pool = sorted(bytes(image) for image in torch.cat([kept.pixels, held_out.pixels]).flatten(1).numpy())
    assert pool == sorted(bytes(image) for image in train.pixels.flatten(1).numpy())


def test_cifar_files_are_read_and_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in CIFAR's own format, made of real digits; torchvision's checksums are of the real files."""
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = np.repeat(load_digits().images[:60].repeat(4, 1).repeat(4, 2)[:, None] * 15, 3, axis=1).astype(np.uint8)
    names = [name for name, _ in CIFAR10.train_list] + [name for name, _ in CIFAR10.test_list]
    for index, name in enumerate(names):
        part = slice(10 * index, 10 * index + 10)
        batch = {"data": images[part].reshape(10, -1), "labels": load_digits().target[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    train, test = read_images(experiment("data=cifar10", f"data.root={tmp_path}").data, 32)
    assert (len(train), len(test)) == (50, 10)
    assert np.array_equal(train.pixels.numpy(), images[:50])
    assert test.labels.tolist() == load_digits().target[50:60].tolist()


@pytest.fixture(scope="module")
def photo_roots(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The same photographs as class folders, Parquet files and tar shards: the overrides that read each."""
    import datasets

    parquet, shards = tmp_path_factory.mktemp("parquet"), tmp_path_factory.mktemp("shards")
    (parquet / "data").mkdir()
    for part, long in (("train", "train"), ("val", "validation")):
        files = sorted((photo_folder / part).glob("*/*.jpg"))
        labels = [int(file.parent.name == "flower") for file in files]
        images = [{"bytes": file.read_bytes(), "path": None} for file in files]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        table = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
        table.to_parquet(parquet / "data" / f"{long}-0.parquet")
        with tarfile.open(shards / f"{part}-0.tar", "w") as tar:
            for number, (file, label) in enumerate(zip(files, labels, strict=True)):
                for name, content in ((f"{number:03}.jpg", file.read_bytes()), (f"{number:03}.cls", b"%d" % label)):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    roots = {"imagefolder": photo_folder, "parquet": parquet, "webdataset": shards}
    return {source: [f"data={source}", f"data.root={root}", *SMALL] for source, root in roots.items()}


def by_pillow(file: Path, size: int) -> np.ndarray:
    """The centre of an image whose shorter side is resized to ``size``: (3, size, size)."""
    image = Image.open(file).convert("RGB")
    width, height = (side * size // min(image.size) for side in image.size)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resized[top : top + size, left : left + size].transpose(2, 0, 1)


def stored(loaders: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return loaders.train.source.images.pixels, loaders.train.source.images.labels


@pytest.mark.parametrize("source", ["imagefolder", "parquet", "webdataset"])
def test_images_in_memory_are_those_of_pillow(
    source: str, photo_roots: dict[str, list[str]], photo_folder: Path
) -> None:
    in_memory, files = (open_loaders(experiment(*photo_roots[source], word), CPU) for word in ("in_memory=true", FILES))
    pixels, labels = stored(in_memory)
    reference = sorted((photo_folder / "train").glob("*/*.jpg"))
    assert labels.tolist() == [int(file.parent.name == "flower") for file in reference]
    expected = np.stack([by_pillow(file, 48) for file in reference])
    assert np.abs(pixels.numpy().astype(int) - expected).max() <= 1
    # evaluation is the same whether images are decoded once or each time, to the bit
    ours, theirs = ([torch.cat(part) for part in zip(*each.val.batches(), strict=True)] for each in (in_memory, files))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert in_memory.val.source.digest() == files.val.source.digest()
    images, _ = next(iter(in_memory.train.batches(0)))
    assert images.shape == (8, 3, 48, 48)


def test_images_of_the_right_size_are_kept_to_the_bit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        for part in ("train", "val"):
            folder = tmp_path / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    words = ["data=imagefolder", f"data.root={tmp_path}", "image_size=40", "batch_size=2", "recipe.eval_crop_ratio=1"]
    loaders = open_loaders(experiment(*words), CPU)
    expected = torch.from_numpy(pixels[[0, 2, 4, 1, 3, 5]]).permute(0, 3, 1, 2)
    assert torch.equal(stored(loaders)[0], expected)
    assert torch.equal(loaders.val.source.images.pixels, expected)


@pytest.fixture
def own_photos(photo_folder: Path, tmp_path: Path) -> Path:
    for file in photo_folder.rglob("*.jpg"):
        copy = tmp_path / "own" / file.relative_to(photo_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "own"


def counted_decoding(patch: pytest.MonkeyPatch) -> list[str]:
    """The crops for which images are decoded from now on."""
    crops: list[str] = []

    class Counted(memory.EvalImageTransform):
        def __init__(self, *crop: Any):
            crops.append(str(crop))
            super().__init__(*crop)

    patch.setattr(memory, "EvalImageTransform", Counted)
    return crops


def test_images_are_decoded_once(
    own_photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["data=imagefolder", f"data.root={own_photos}", *SMALL]
    crops = counted_decoding(monkeypatch)
    first = stored(open_loaders(experiment(*words), CPU))[0].clone()
    assert len(crops) == 2
    # the seed, the network and whatever else is not the images; another recipe evaluates on others
    for more in ([], ["seed=3", "step=gelu"], ["recipe=original", "num_workers=auto"]):
        assert torch.equal(stored(open_loaders(experiment(*words, *more), CPU))[0], first)
    assert len(crops) == 3
    assert "bilinear" in crops[2]
    # one image is replaced in place: neither its name nor the time of its folder changes
    file = own_photos / "train" / "china" / "5.jpg"
    with open(file, "r+b") as opened:
        opened.write((own_photos / "train" / "flower" / "1.jpg").read_bytes())
        opened.truncate()
    caplog.clear()
    changed = stored(open_loaders(experiment(*words), CPU))[0].clone()
    assert sum("(the data has changed)" in message for message in caplog.messages) == 1
    assert (changed != first).flatten(1).any(1).sum() == 1
    (cache,) = (own_photos / ".roadmap").glob("train-48-????????????????")
    pixels = cache / "pixels.npy"
    content = bytearray(pixels.read_bytes())
    content[5000] ^= 1
    pixels.write_bytes(content)
    caplog.clear()
    assert torch.equal(stored(open_loaders(experiment(*words), CPU))[0], changed)
    assert sum("(damaged: its pixels differ from their checksum)" in message for message in caplog.messages) == 1
    assert len(crops) == 5
    assert not list((own_photos / ".roadmap").glob(".*"))


def test_concurrent_starts_decode_once(own_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = counted_decoding(monkeypatch)
    asked = experiment("data=imagefolder", f"data.root={own_photos}", *SMALL)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: open_loaders(asked, CPU), range(4)))
    assert len(crops) == 2
    assert all(torch.equal(stored(each)[0], stored(opened[0])[0]) for each in opened)


def test_a_killed_decoding_leaves_nothing_that_is_used(own_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = experiment("data=imagefolder", f"data.root={own_photos}", *SMALL)
    if (child := os.fork()) == 0:
        monkeypatch.setattr(memory, "_compare_statistics", lambda *_: os._exit(9))
        open_loaders(asked, CPU)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [file.name[:9] for file in (own_photos / ".roadmap").glob(".train*")] == [".train-48"]
    assert len(open_loaders(asked, CPU).train.source) == 24
    assert not list((own_photos / ".roadmap").glob(".train*"))


def test_whether_images_are_in_memory_follows_from_the_config(photo_folder: Path) -> None:
    def asked(*more: str):
        return experiment("data=imagefolder", f"data.root={photo_folder}", *more)

    assert asked("image_size=64").in_memory
    assert not asked("image_size=65").in_memory
    assert asked("image_size=65", "in_memory=true").in_memory
    assert asked("image_size=64").definition["data"]["in_memory"] is True
    assert asked("image_size=64").run_id == asked("image_size=64", "in_memory=true", "memory_budget_gb=9").run_id
    # crops of files are another experiment, and the one that older versions made
    assert "in_memory" not in asked("image_size=64", FILES).definition["data"]
    assert asked("image_size=64", FILES).run_id != asked("image_size=64").run_id
    assert asked("image_size=96").run_id == asked("image_size=96", FILES).run_id
    assert "in_memory" not in experiment().definition["data"]
    with pytest.raises(RequestError, match=r"^data=digits is always in memory; choose in_memory=auto$"):
        experiment(FILES)


def test_images_beyond_the_budget_are_refused(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["data=imagefolder", f"data.root={photo_folder}", *SMALL]
    needed = r"^34 images of imagefolder at image_size=48 need 0\.000235 GB in memory, more than 0\.0002 GB "
    ways_out = "; raise memory_budget_gb, or choose in_memory=false"
    with pytest.raises(RequestError, match=rf"{needed}\(memory_budget_gb\){ways_out}"):
        open_loaders(experiment(*words, "memory_budget_gb=0.0002"), CPU)
    monkeypatch.setattr(memory, "free_memory", lambda device: 333_334)
    with pytest.raises(RequestError, match=rf"{needed}\(60% of the free memory of cpu\){ways_out}"):
        open_loaders(experiment(*words), CPU)


def test_the_images_own_mean_and_deviation_are_said(own_photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["data=imagefolder", f"data.root={own_photos}", *SMALL]
    pixels = stored(open_loaders(experiment(*words), CPU))[0].double() / 255
    (said,) = [message for message in caplog.messages if "another mean or deviation" in message]
    mean, std = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3), correction=0).tolist()
    for name, values in (("mean", mean), ("std", std)):
        assert f"data.{name}=[{','.join(f'{value:.4f}' for value in values)}]" in said
