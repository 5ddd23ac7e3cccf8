"""Parquet files and tar shards, written by the libraries that write them everywhere, hold the images of a folder."""

import io
import tarfile
from pathlib import Path

import datasets
import pytest
import torch
import webdataset

from roadmap.config.compose import compose
from roadmap.data import Loaders, open_loaders
from roadmap.data.folder import read_folder
from roadmap.errors import RequestError
from roadmap.runtime.distributed import World

CLASSES = ("china", "flower")
SETTINGS = ["batch_size=6", "image_size=32", "num_workers=0"]


def loaders(source: str, root: Path, *overrides: str, world: World | None = None) -> Loaders:
    request = [f"data={source}", f"data.root={root}", *SETTINGS, *overrides]
    return open_loaders(compose(request).experiment(), torch.device("cpu"), world or World())


def images(folder: Path, split: str) -> list[tuple[Path, int]]:
    return [(file, CLASSES.index(file.parent.name)) for file in sorted((folder / split).glob("*/*.jpg"))]


@pytest.fixture(scope="session")
def parquet(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training files and one of validation, as `datasets` uploads them."""
    root = tmp_path_factory.mktemp("parquet")
    (root / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    for split, name, parts in (("train", "train", 2), ("val", "validation", 1)):
        rows = [
            {"image": {"bytes": file.read_bytes(), "path": file.name}, "label": label}
            for file, label in images(photo_folder, split)
        ]
        for part in range(parts):
            table = datasets.Dataset.from_list(rows[part::parts], features=features)
            table.to_parquet(root / "data" / f"{name}-{part:05}-of-{parts:05}.parquet")
    return root


@pytest.fixture(scope="session")
def shards(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training shards and one of validation, as `webdataset` writes them."""
    root = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        with webdataset.ShardWriter(str(root / f"photos-{split}-%04d.tar"), maxcount=5, verbose=0) as writer:
            for number, (file, label) in enumerate(images(photo_folder, split)):
                sample = {"__key__": f"a/{number:06}", "jpg": file.read_bytes(), "cls": label, "json": {"n": number}}
                writer.write(sample)
    assert len(list(root.glob("*train*"))) == 5
    return root


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
def test_archives_equal_class_folders(source: str, photo_folder: Path, request: pytest.FixtureRequest) -> None:
    opened = loaders(source, request.getfixturevalue({"webdataset": "shards"}.get(source, source)))
    folder = loaders("imagefolder", photo_folder)
    assert (opened.train_images, opened.val_images, opened.num_classes) == (24, 10, 2)
    ours, theirs = ([torch.cat(part) for part in zip(*each.val.batches(), strict=True)] for each in (opened, folder))
    # evaluation keeps the order of the files: of one shard or table it is that of the folder
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert opened.val.source.digest() == folder.val.source.digest()


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_image_occurs_once_over_ranks_and_workers(
    source: str, workers: int, request: pytest.FixtureRequest
) -> None:
    """Told apart by their pixels, cropped not at all; and the same order with any number of workers and processes."""
    root = request.getfixturevalue({"webdataset": "shards"}.get(source, source))
    plain = ["recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.horizontal_flip=0", f"num_workers={workers}"]
    plain += ["micro_batch_size=3", "batch_size=24"]

    def seen(world: World) -> list[bytes]:
        batches = loaders(source, root, *plain, world=world).train.batches(0)
        return [bytes(image.numpy()) for images, _ in batches for image in images]

    alone = seen(World())
    assert len(set(alone)) == 24
    together = [seen(World(rank, 2)) for rank in range(2)]
    assert sorted(together[0] + together[1]) == sorted(alone)
    # two processes take the micro batches in turn
    assert together[0] == [image for start in range(0, 24, 6) for image in alone[start : start + 3]]


def test_parquet_holdout_is_stratified(parquet: Path) -> None:
    held = loaders("parquet", parquet, "data.holdout=0.25")
    assert (held.train_images, held.val_images) == (18, 6)
    labels = torch.cat([labels for _, labels in held.val.batches()])
    assert torch.bincount(labels).tolist() == [3, 3]


def test_damaged_image_in_a_shard_is_named(shards: Path, tmp_path: Path) -> None:
    for file in shards.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = tmp_path / "photos-train-0001.tar"
    with tarfile.open(victim) as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
    with open(victim, "r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    opened = loaders("webdataset", tmp_path, "data.max_corrupt=1", "batch_size=24")
    list(opened.train.batches(0))
    assert list(opened.corrupt.found) == [f"{victim}:{member.name}"]


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        (
            "webdataset",
            ["data.train_files=none-*.tar"],
            r"no file .*/none-\*\.tar; data\.train_files must be a pattern",
        ),
        ("parquet", ["data.val_files=none"], r"no file .*/none; data\.val_files must be a pattern"),
        ("parquet", ["data.label_column=cls"], r"no column 'cls'; set data\.label_column to one of image, label"),
        ("webdataset", ["data.num_classes=1"], r"has label 1, but data\.num_classes=1"),
        ("parquet", ["data.num_classes=1"], r"has label 1, but data\.num_classes=1"),
    ],
)
def test_inconsistent_archives_are_refused(
    source: str, overrides: list[str], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(RequestError, match=message):
        loaders(source, request.getfixturevalue({"webdataset": "shards"}.get(source, source)), *overrides)


def tar_of(file: Path, **members: bytes) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def test_missing_labels_and_truncated_shards_are_refused(tmp_path: Path) -> None:
    shard = tar_of(tmp_path / "x-train.tar", a__jpg=b"1" * 600, a__cls=b"0", b__jpg=b"2")
    with pytest.raises(RequestError, match=r"x-train\.tar:b\.jpg has no label; a \.cls file"):
        loaders("webdataset", tmp_path)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(RequestError, match=r"cannot read shard .*x-train\.tar: unexpected end of data"):
        loaders("webdataset", tmp_path)


def test_invalid_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "data" / f"{name}-0.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match="cannot read the parquet files of"):
        loaders("parquet", tmp_path)


def test_file_names_are_one_array(photo_folder: Path) -> None:
    files = read_folder(compose(["data=imagefolder", f"data.root={photo_folder}"]).experiment().data).train
    assert files.files.dtype.kind == "S"  # type: ignore[attr-defined]
    assert Path(files.name(0)).is_file()
