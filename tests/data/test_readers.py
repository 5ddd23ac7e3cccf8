"""Class folders, Parquet files and tar shards hold the same images; a share of the classes; images held out."""

import io
import shutil
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from roadmap.config.compose import compose
from roadmap.data import Loaders, archives, open_loaders, readers
from roadmap.data.readers import read_files
from roadmap.data.samples import Split, balanced_part, stratified_split
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
    request = [f"data={source}", f"data.root={root}", "batch_size=6", "image_size=32", "num_workers=0"]
    request += ["in_memory=false", *overrides]
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
    plain = [
        "recipe.augment.horizontal_flip=0",
        f"num_workers={workers}",
        "micro_batch_size=3",
        "batch_size=42",
        "norm=layer",
    ]

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
    for file in roots["webdataset"].glob("*.tar"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = tmp_path / "train-0001.tar"
    with tarfile.open(victim) as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
    with open(victim, "r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    opened = loaders("webdataset", tmp_path, "data.max_corrupt=1", "batch_size=42", "norm=layer")
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


@pytest.fixture
def own_copy(roots: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Class folders and shards that a test may change, without indices."""
    ignored = shutil.ignore_patterns(".roadmap")
    return {
        source: shutil.copytree(roots[source], tmp_path / source, ignore=ignored)
        for source in ("imagefolder", "webdataset")
    }


def forbid_indexing(patch: pytest.MonkeyPatch) -> None:
    def listed(*_: object) -> None:
        raise AssertionError("the files were listed again")

    patch.setattr(readers, "ImageFolder", listed)
    patch.setattr(archives, "_members", listed)


def contents(part: Split) -> list[tuple[str, bytes, int]]:
    return [
        (samples.name(index), samples.read(index), int(samples.labels[index]))
        for samples in (part.train, part.val)
        for index in range(len(samples.labels))
    ]


@pytest.mark.parametrize("source", ["imagefolder", "webdataset"])
def test_files_are_listed_once(source: str, own_copy: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = contents(split(source, own_copy[source]))
    with monkeypatch.context() as patch:
        forbid_indexing(patch)
        assert contents(split(source, own_copy[source])) == first
    if source == "imagefolder":
        files = [file for part in ("train", "val") for file in sorted((own_copy[source] / part).rglob("*.jpg"))]
        assert [name for name, _, _ in first] == [*map(str, files)]


def test_a_changed_folder_or_shard_is_indexed_again(
    own_copy: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder, shards = own_copy["imagefolder"], own_copy["webdataset"]
    before = len(contents(split("imagefolder", folder)))
    nested = folder / "train" / "bee" / "more"
    nested.mkdir()
    split("imagefolder", folder)
    (nested / "x.jpg").write_bytes(encoded(1, 1))
    (folder / "val" / "ant").rename(folder / "val" / "aaa")
    (folder / "train" / "ant").rename(folder / "train" / "aaa")
    caplog.clear()
    changed = contents(split("imagefolder", folder))
    assert len(changed) == before + 1
    assert (str(nested / "x.jpg"), encoded(1, 1), 1) in changed
    assert sum("is made again (the data has changed)" in message for message in caplog.messages) == 2
    old = contents(split("webdataset", shards))
    shutil.copy(shards / "val-0000.tar", shards / "train-0000.tar")
    assert len(contents(split("webdataset", shards))) == len(old) - 20 + 14


@pytest.mark.parametrize("name", ["names.npy", "notes.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage", "empty", "missing"])
def test_a_damaged_index_is_made_again(
    name: str, damage: str, own_copy: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first = contents(split("imagefolder", own_copy["imagefolder"]))
    (file,) = (own_copy["imagefolder"] / ".roadmap").glob(f"index-train-????????????????/{name}")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    changed = {"truncated": content[:-9], "flipped": content, "garbage": b"x" * 5000, "empty": b""}
    file.unlink()
    if damage != "missing":
        file.write_bytes(changed[damage])
    caplog.clear()
    assert contents(split("imagefolder", own_copy["imagefolder"])) == first
    if (name, damage) != ("notes.json", "missing"):  # as after a kill, which is no damage
        assert len([message for message in caplog.messages if "is made again (damaged: " in message]) == 1
    caplog.clear()
    split("imagefolder", own_copy["imagefolder"])
    assert not caplog.messages


def test_indices_of_read_only_data_lie_in_the_users_cache(
    own_copy: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = own_copy["imagefolder"]
    root.chmod(0o555)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = contents(split("imagefolder", root))
    assert sorted(file.name[:-17] for file in (tmp_path / "cache" / "roadmap").glob("*[0-9a-f]")) == [
        "index-train",
        "index-val",
    ]
    chosen = f"data.cache={tmp_path / 'chosen'}"
    assert contents(split("imagefolder", root, chosen)) == first
    with monkeypatch.context() as patch:
        forbid_indexing(patch)
        shutil.rmtree(tmp_path / "cache")
        assert contents(split("imagefolder", root, chosen)) == first
    # nothing can be written: no index, the same images
    (tmp_path / "cache").touch()
    assert contents(split("imagefolder", root)) == first
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"cannot write \S+/file/index-train-\w+: .*; .*choose another data\.cache"):
        split("imagefolder", root, f"data.cache={tmp_path / 'file'}")
    root.chmod(0o755)


def test_concurrent_starts_index_once(own_copy: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = readers.ImageFolder

    def counted(folder: str) -> object:
        calls.append(folder)
        return original(folder)

    monkeypatch.setattr(readers, "ImageFolder", counted)
    data = compose(["data=imagefolder", f"data.root={own_copy['imagefolder']}"]).experiment().data
    with ThreadPoolExecutor(4) as pool:
        found = [contents(each) for each in pool.map(read_files, [data] * 4)]
    assert all(each == found[0] for each in found)
    assert len(calls) == 2


def test_a_part_of_the_training_images_is_balanced_and_nested() -> None:
    labels = np.random.default_rng(0).choice(10, 5000, p=np.arange(1, 11) / 55)
    parts = {count: balanced_part(labels, count) for count in (10, 25, 500, 1200, 5000)}
    for smaller, larger in zip([10, 25, 500, 1200], [25, 500, 1200, 5000], strict=True):
        assert len(parts[smaller]) == smaller
        assert set(parts[smaller]) < set(parts[larger])
        assert sorted(parts[smaller]) == list(parts[smaller])
    assert set(np.bincount(labels[parts[25]])) == {2, 3}
    assert set(np.bincount(labels[parts[500]])) == {50}
    # the rarest class has about 90 images: all of them, and the others share the rest
    counts, every = np.bincount(labels[parts[1200]]), np.bincount(labels)
    assert counts[0] == every[0] < 120
    assert set(counts[1:]) <= {counts[1], counts[1] + 1, counts[1] - 1}
    # drawn, not the first of each class
    assert not all(np.flatnonzero(labels == 5)[:50] == parts[500][labels[parts[500]] == 5])
    # fixed for ever: runs of other versions refer to these images
    assert balanced_part(np.arange(40) % 4, 6).tolist() == [13, 21, 27, 32, 38, 39]


@pytest.mark.parametrize("source", [*SOURCES, "digits"])
def test_training_on_a_part_keeps_the_evaluation_images(source: str, roots: dict[str, Path]) -> None:
    words = [f"data={source}", "batch_size=4", "image_size=32", "num_workers=0", "data.holdout=0.34"]
    words += [] if source == "digits" else [f"data.root={roots[source]}"]
    whole, part = (compose([*words, *more]).experiment() for more in ([], ["data.train_images=14"]))
    assert whole.run_id != part.run_id
    assert "train_images" not in whole.definition["data"]
    all_of_it, some = (open_loaders(experiment, torch.device("cpu")) for experiment in (whole, part))
    assert some.train_images == 14
    counts = Counter(torch.cat([labels for _, labels in some.train.batches(0)]).tolist())
    assert sum(counts.values()) == 12
    assert max(counts.values()) <= 2
    ours, theirs = ([images for images, _ in each.val.batches()] for each in (some, all_of_it))
    assert torch.equal(torch.cat(ours), torch.cat(theirs))
    for count in (5, 10_000):
        with pytest.raises(RequestError, match=rf"train_images must be at least \d+, .* at most \d+.*got {count}"):
            open_loaders(compose([*words, f"data.train_images={count}"]).experiment(), torch.device("cpu"))
