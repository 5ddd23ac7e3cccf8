"""Class folders, Parquet files and tar shards hold the same images; a share of the classes; images held out."""

import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from roadmap.config.compose import compose
from roadmap.data import Loaders, open_loaders
from roadmap.data.readers import read_files
from roadmap.data.samples import Split, stratified_split
from roadmap.errors import RequestError
from roadmap.runtime.distributed import World
from roadmap.training.run import run_experiment

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
SOURCES = ("imagefolder", "parquet", "webdataset")


def encoded(label: int, number: int) -> bytes:
    """A JPEG of one grey level, which tells the class and the image."""
    file = io.BytesIO()
    Image.new("L", (40, 40), 30 * label + 3 * number).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Seven classes, six images of each to train on and two to evaluate, in each of the three sources."""
    roots = {source: tmp_path_factory.mktemp(source) for source in SOURCES}
    (roots["parquet"] / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    for split, long, numbers in (("train", "train", range(6)), ("val", "validation", range(6, 8))):
        images = [(label, encoded(label, number)) for label in range(len(NAMES)) for number in numbers]
        for index, (label, content) in enumerate(images):
            folder = roots["imagefolder"] / split / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:02}.jpg").write_bytes(content)
        rows = [{"image": {"bytes": content, "path": None}, "label": label} for label, content in images]
        for part in range(2):
            table = datasets.Dataset.from_list(rows[part * len(rows) // 2 :][: len(rows) // 2], features=features)
            table.to_parquet(roots["parquet"] / "data" / f"{long}-0000{part}-of-00002.parquet")
        pattern = str(roots["webdataset"] / f"{split}-%04d.tar")
        with webdataset.ShardWriter(pattern, maxcount=20, verbose=0) as writer:
            for index, (label, content) in enumerate(images):
                writer.write({"__key__": f"a/{index:06}", "jpg": content, "cls": label, "json": {"n": index}})
    return roots


def loaders(source: str, root: Path, *overrides: str, world: World | None = None) -> Loaders:
    request = [f"data={source}", f"data.root={root}", "batch_size=6", "image_size=32", "num_workers=0", *overrides]
    return open_loaders(compose(request).experiment(), torch.device("cpu"), world or World())


def split(source: str, root: Path, *overrides: str) -> Split:
    return read_files(compose([f"data={source}", f"data.root={root}", *overrides]).experiment().data)


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
def test_archives_equal_class_folders(source: str, roots: dict[str, Path]) -> None:
    opened, folder = (loaders(name, roots[name]) for name in (source, "imagefolder"))
    assert (opened.train_images, opened.val_images, opened.num_classes) == (42, 14, 7)
    ours, theirs = ([torch.cat(part) for part in zip(*each.val.batches(), strict=True)] for each in (opened, folder))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert opened.train.source.digest() == folder.train.source.digest()


@pytest.mark.parametrize(("source", "workers"), [("parquet", 0), ("webdataset", 2)])
def test_each_image_occurs_once_over_ranks_and_workers(source: str, workers: int, roots: dict[str, Path]) -> None:
    plain = ["recipe.augment.horizontal_flip=0", f"num_workers={workers}", "micro_batch_size=3", "batch_size=42"]

    def seen(world: World) -> list[bytes]:
        batches = loaders(source, roots[source], *plain, world=world).train.batches(0)
        return [bytes(image.numpy()) for images, _ in batches for image in images]

    alone = seen(World())
    assert len(set(alone)) == 42
    together = [seen(World(rank, 2)) for rank in range(2)]
    assert sorted(together[0] + together[1]) == sorted(alone)
    # two processes take the micro batches in turn
    assert together[0] == [image for start in range(0, 42, 6) for image in alone[start : start + 3]]


@pytest.mark.parametrize("source", SOURCES)
def test_selected_classes_are_evenly_spaced_and_renumbered(source: str, roots: dict[str, Path]) -> None:
    for classes, kept in ((2, [0, 3]), (3, [0, 2, 4]), (7, [0, 1, 2, 3, 4, 5, 6])):
        chosen = split(source, roots[source], f"data.classes={classes}")
        assert chosen.num_classes == classes
        for samples, count in ((chosen.train, 6), (chosen.val, 2)):
            assert sorted(samples.labels) == sorted(list(range(classes)) * count)
            grey = [np.asarray(Image.open(io.BytesIO(samples.read(index)))).mean() for index in range(count * classes)]
            assert [int(level) // 30 for level in grey] == [kept[label] for label in samples.labels]


def test_holdout_is_stratified_over_the_selected_classes(roots: dict[str, Path]) -> None:
    chosen = split("parquet", roots["parquet"], "data.classes=3", "data.holdout=0.5")
    assert sorted(chosen.train.labels) == sorted(chosen.val.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    names = [{samples.name(index) for index in range(9)} for samples in (chosen.train, chosen.val)]
    assert not names[0] & names[1]


def test_only_image_of_a_class_is_kept_for_training() -> None:
    labels = [0] * 10 + [1] + [2] * 10
    kept, out = stratified_split(labels, 0.2)
    assert 10 in kept
    assert sorted(kept + out) == list(range(21))
    assert sorted(labels[index] for index in out) == [0, 0, 2, 2]


def test_class_selection_changes_the_run_id(roots: dict[str, Path]) -> None:
    request = ["data=imagefolder", f"data.root={roots['imagefolder']}"]
    every, some = compose(request).experiment(), compose([*request, "data.classes=3"]).experiment()
    assert "classes" not in every.definition["data"]
    assert some.definition["data"]["classes"] == 3
    assert every.run_id != some.run_id


def test_run_on_some_classes_without_val(roots: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(roots["imagefolder"] / "train")
    request = ["data=imagefolder", f"data.root={tmp_path}", "epochs=1", "batch_size=4", "image_size=32"]
    request += ["num_workers=0", f"runs_dir={tmp_path / 'runs'}"]
    with pytest.raises(RequestError, match=r"no folder \S+/val; .* \(or train/ only, with data\.holdout=0\.1\)"):
        run_experiment(compose(request))
    summary, folder = run_experiment(compose([*request, "data.classes=4", "data.holdout=0.25", "step=gelu"]))
    assert (summary["train_images"], summary["val_images"], summary["num_classes"]) == (18, 6, 4)
    network = torch.load(folder.checkpoints / "last.pt", weights_only=True)["network"]
    assert network["head.bias"].shape == (4,)


def test_variants_of_imagenet() -> None:
    data = compose(["data=imagenet100", "data.root=x"]).experiment().data
    assert (data.source, data.num_classes, data.classes) == ("folder", 1000, 100)
    data = compose(["data=imagenet22k", "data.root=x", "recipe=pretrain_22k", "size=xl"]).experiment().data
    assert (data.source, data.num_classes, data.holdout) == ("folder", 21841, 0.005)


def test_damaged_image_in_a_shard_is_named(roots: dict[str, Path], tmp_path: Path) -> None:
    for file in roots["webdataset"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = tmp_path / "train-0001.tar"
    with tarfile.open(victim) as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
    with open(victim, "r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    opened = loaders("webdataset", tmp_path, "data.max_corrupt=1", "batch_size=42")
    list(opened.train.batches(0))
    assert list(opened.corrupt.found) == [f"{victim}:{member.name}"]


@pytest.mark.parametrize(
    ("source", "override", "message"),
    [
        ("imagefolder", "data.classes=8", r"data\.classes must be at most 7 \(got 8\)"),
        ("imagefolder", "data.classes=1", r"data\.classes must be at least 2 \(got 1\)"),
        ("webdataset", "data.train_files=none-*.tar", r"no file .*/none-\*\.tar; data\.train_files must be a pattern"),
        ("parquet", "data.label_column=cls", r"no column 'cls'; set data\.label_column to one of image, label"),
        ("webdataset", "data.num_classes=1", r"has label 6, but data\.num_classes=1"),
        ("parquet", "data.num_classes=1", r"has label 6, but data\.num_classes=1"),
    ],
)
def test_inconsistent_requests_are_refused(source: str, override: str, message: str, roots: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match=message):
        split(source, roots[source], override)


def test_missing_labels_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    shard = tmp_path / "x-train.tar"
    with tarfile.open(shard, "w") as tar:
        for name, content in (("a.jpg", b"1" * 600), ("a.cls", b"0"), ("b.jpg", b"2")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(RequestError, match=r"x-train\.tar:b\.jpg has no label; a \.cls file"):
        split("webdataset", tmp_path)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(RequestError, match=r"cannot read shard .*x-train\.tar: unexpected end of data"):
        split("webdataset", tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "data" / f"{name}-0.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match="cannot read the parquet files of"):
        split("parquet", tmp_path)
