"""A share of the classes, a folder without val/, a class of one image: on real small files of every source."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from roadmap.config.compose import compose
from roadmap.data.readers import read_files
from roadmap.data.sampler import stratified_split
from roadmap.data.samples import Split
from roadmap.errors import RequestError
from roadmap.training.run import run_experiment

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def encoded(label: int) -> bytes:
    """A JPEG of one grey level, the class's own, so that an image says which class it is of."""
    file = io.BytesIO()
    Image.new("L", (40, 40), 30 * label).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Seven classes, six images of each to train on and two to evaluate, in each of the three sources."""
    roots = {source: tmp_path_factory.mktemp(source) for source in ("imagefolder", "parquet", "webdataset")}
    (roots["parquet"] / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    for split, long, count in (("train", "train", 6), ("val", "validation", 2)):
        # classes take turns, as in no folder
        labels = [label for _ in range(count) for label in range(len(NAMES))]
        for number, label in enumerate(labels):
            folder = roots["imagefolder"] / split / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(encoded(label))
        rows = [{"image": {"bytes": encoded(label), "path": None}, "label": label} for label in labels]
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(roots["parquet"] / "data" / f"{long}-00000-of-00001.parquet")
        with webdataset.ShardWriter(str(roots["webdataset"] / f"{split}-%04d.tar"), maxcount=20, verbose=0) as writer:
            for number, label in enumerate(labels):
                writer.write({"__key__": f"{number:06}", "jpg": encoded(label), "cls": label})
    return roots


def split(source: str, root: Path, *overrides: str) -> Split:
    return read_files(compose([f"data={source}", f"data.root={root}", *overrides]).experiment().data)


def grey_level(content: bytes) -> int:
    return round(float(np.asarray(Image.open(io.BytesIO(content))).mean()) / 30)


@pytest.mark.parametrize("source", ["imagefolder", "parquet", "webdataset"])
@pytest.mark.parametrize(
    ("classes", "kept"), [(2, [0, 3]), (3, [0, 2, 4]), (5, [0, 1, 2, 4, 5]), (7, [0, 1, 2, 3, 4, 5, 6])]
)
def test_selected_classes_are_evenly_spaced_and_renumbered(
    source: str, classes: int, kept: list[int], roots: dict[str, Path]
) -> None:
    chosen = split(source, roots[source], f"data.classes={classes}")
    assert chosen.num_classes == classes
    for samples, count in ((chosen.train, 6), (chosen.val, 2)):
        assert sorted(samples.labels) == sorted(list(range(classes)) * count)
        for index, label in enumerate(samples.labels):
            assert grey_level(samples.read(index)) == kept[label]


@pytest.mark.parametrize("source", ["imagefolder", "parquet", "webdataset"])
def test_holdout_uses_the_selected_classes(source: str, roots: dict[str, Path]) -> None:
    chosen = split(source, roots[source], "data.classes=3", "data.holdout=0.5")
    assert sorted(chosen.train.labels) == sorted(chosen.val.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    names = [{samples.name(index) for index in range(9)} for samples in (chosen.train, chosen.val)]
    assert not names[0] & names[1]


def test_impossible_class_counts_are_refused(roots: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match=r"data\.classes must be at most 7 \(got 8\)"):
        split("imagefolder", roots["imagefolder"], "data.classes=8")
    with pytest.raises(RequestError, match=r"data\.classes must be at least 2 \(got 1\)"):
        split("imagefolder", roots["imagefolder"], "data.classes=1")


def test_class_selection_changes_the_run_id(roots: dict[str, Path]) -> None:
    request = ["data=imagefolder", f"data.root={roots['imagefolder']}"]
    every, some = compose(request).experiment(), compose([*request, "data.classes=3"]).experiment()
    assert "classes" not in every.definition["data"]
    assert some.definition["data"]["classes"] == 3
    assert every.run_id != some.run_id


def test_run_on_some_classes_without_val(roots: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    (root / "train").symlink_to(roots["imagefolder"] / "train")
    request = ["data=imagefolder", f"data.root={root}", "epochs=1", "batch_size=4", "image_size=32", "num_workers=0"]
    with pytest.raises(RequestError, match=r"no folder \S+/val; .* \(or train/ only, with data\.holdout=0\.1\)"):
        run_experiment(compose([*request, f"runs_dir={tmp_path / 'runs'}"]))
    request += ["data.classes=4", "data.holdout=0.25", "step=separate_downsampling"]
    summary, folder = run_experiment(compose([*request, f"runs_dir={tmp_path / 'runs'}"]))
    assert (summary["train_images"], summary["val_images"], summary["num_classes"]) == (18, 6, 4)
    network = torch.load(folder.checkpoints / "last.pt", weights_only=True)["network"]
    assert network["head.bias"].shape == (4,)


def test_imagenet100_has_every_tenth_class() -> None:
    data = compose(["data=imagenet100", "data.root=x"]).experiment().data
    assert (data.source, data.num_classes, data.classes) == ("folder", 1000, 100)

    class Labels:
        labels = range(1000)

    numbers = Split(Labels(), Labels(), 1000).with_classes(data.classes)  # type: ignore[arg-type]
    assert list(numbers.train.indices) == list(range(0, 1000, 10))  # type: ignore[attr-defined]


def test_imagenet_22k_holds_out_a_share() -> None:
    data = compose(["data=imagenet22k", "data.root=x", "recipe=pretrain_22k", "size=xl"]).experiment().data
    assert (data.source, data.num_classes, data.holdout) == ("folder", 21841, 0.005)


def test_only_image_of_a_class_is_kept_for_training() -> None:
    labels = [0] * 10 + [1] + [2] * 10
    kept, out = stratified_split(labels, 0.2)
    assert 10 in kept
    assert sorted(kept + out) == list(range(21))
    assert sorted(labels[index] for index in out) == [0, 0, 2, 2]
