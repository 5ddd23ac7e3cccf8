"""Predictions saved image by image: those of the network that was logged, in the data set's order, in a small file."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.memory import read_images
from roadmap.errors import RequestError
from roadmap.runs.evaluations import EvaluatedImages, Predictions, read_predictions, write_predictions
from roadmap.training.build import build_trainer
from roadmap.training.run import run_experiment
from tests.processes import train_in
from tests.records import timeless_metrics

QUICK = ["step=separate_downsampling", "epochs=2", "batch_size=32", "recipe.ema_decay=0.9"]
SAVE = "save_predictions=true"
CPU = torch.device("cpu")


def folder(runs_dir: Path) -> Path:
    (found,) = runs_dir.glob("nano-*")
    return found


def top1(run: Path) -> float:
    return json.loads((run / "summary.json").read_text())["top1"]


def photographs(root: Path, *more: str) -> list[str]:
    request = ["data=imagefolder", f"data.root={root}", "batch_size=6", "image_size=32", "epochs=1", SAVE]
    request += ["in_memory=false"]
    return [*request, "step=separate_downsampling", "num_workers=0", "recipe.batch_norm_images=2", *more]


def evaluated_anew(run: Path, request: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and probabilities that the last checkpoint's network gives in one process."""
    experiment = compose(request).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, CPU), CPU)
    trainer.parts.network.load_state_dict(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["network"])
    trainer.parts.network.eval()
    with torch.no_grad():
        logits = torch.cat([trainer.parts.network(images) for images, _ in trainer.loaders.val.batches()])
    return logits.argmax(dim=1), logits.softmax(dim=1).max(dim=1).values


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same finished run twice: without predictions, and with them."""
    found = {}
    for name, words in (("plain", []), ("saving", [SAVE])):
        runs_dir = tmp_path_factory.mktemp(name)
        run_experiment(compose([*QUICK, *words, f"runs_dir={runs_dir}"]))
        found[name] = folder(runs_dir)
    return found


@pytest.fixture
def saving(finished: dict[str, Path]) -> Path:
    return finished["saving"]


@pytest.fixture
def copied(finished: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the run without predictions."""
    return Path(shutil.copytree(finished["plain"], tmp_path / finished["plain"].name))


def test_they_are_those_of_the_network_that_was_logged(saving: Path) -> None:
    predictions = read_predictions(saving)
    assert predictions.top1 == top1(saving)
    _, images = read_images(compose(QUICK).experiment().data, 32)
    assert predictions.labels.tolist() == images.labels.tolist()
    predicted, confidence = evaluated_anew(saving, QUICK)
    assert predictions.predicted.tolist() == predicted.tolist()
    np.testing.assert_allclose(predictions.confidence, confidence, rtol=2e-3)
    assert (predictions.images.data, predictions.images.image_size, predictions.images.left_out) == ("digits", 32, ())


def test_saving_changes_nothing_else(finished: dict[str, Path]) -> None:
    plain, saving = finished.values()
    assert plain.name == saving.name, "not part of the run's identity"
    with pytest.raises(RequestError, match=r"predictions\.npz does not exist; save predictions by training with save_"):
        read_predictions(plain)
    assert timeless_metrics(plain / "metrics.jsonl") == timeless_metrics(saving / "metrics.jsonl")
    one, other = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (plain, saving))
    assert all(torch.equal(one["network"][name], other["network"][name]) for name in one["network"])


def test_a_run_killed_before_they_were_written_writes_them(copied: Path, saving: Path) -> None:
    """All epochs done, the last checkpoint written, the summary not."""
    summary = json.loads((copied / "summary.json").read_text())
    (copied / "summary.json").write_text(json.dumps(summary | {"status": "running", "top1": None}))
    again, _ = run_experiment(compose([*QUICK, SAVE, f"runs_dir={copied.parent}"]))
    assert (again["status"], again["top1"]) == ("finished", summary["top1"])
    assert (copied / "predictions.npz").read_bytes() == (saving / "predictions.npz").read_bytes()


def test_processes_save_every_image_once_in_order(photo_folder: Path, tmp_path: Path) -> None:
    """Ten images, one of them unreadable,, among three processes."""
    root = shutil.copytree(photo_folder, tmp_path / "images")
    (root / "val" / "flower" / "2.jpg").write_bytes(b"no image")
    request = photographs(root, "data.max_corrupt=1", f"runs_dir={tmp_path / 'runs'}")
    assert train_in(3, request) == [0, 0, 0]
    run = folder(tmp_path / "runs")
    predictions = read_predictions(run)
    assert predictions.images.left_out == (7,)
    assert predictions.labels.tolist() == [0] * 5 + [1] * 4
    assert predictions.predicted.tolist() == evaluated_anew(run, request)[0].tolist()
    assert predictions.top1 == top1(run)


def test_a_file_of_imagenets_size_is_small_and_whole(tmp_path: Path) -> None:
    rng, images = np.random.default_rng(0), EvaluatedImages("imagenet", "ab12", 224, 0.875, (3, 70000))
    labels = rng.permutation(np.arange(50_000) % 1000)
    predicted = np.where(rng.random(50_000) < 0.5, labels, rng.integers(0, 1000, 50_000))
    write_predictions(tmp_path / "p.npz", Predictions(images, labels, predicted, rng.random(50_000)))
    assert (tmp_path / "p.npz").stat().st_size < 300_000
    again = read_predictions(tmp_path / "p.npz")
    assert again.images == images
    assert again.labels.tolist() == labels.tolist()
    assert again.predicted.tolist() == predicted.tolist()


def entries(**changes: object) -> dict:
    few = np.zeros(3, np.uint8)
    whole = {"labels": few, "predicted": few, "confidence": few, "data": "x", "digest": "", "image_size": 32}
    return whole | {"crop_ratio": 1.0, "left_out": few} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicted": np.zeros(2, np.uint8)}, r"\(3,\) labels, \(2,\) predictions"),
        ({"labels": np.zeros(3)}, "its classes are not unsigned integers"),
        ({"labels": np.array([{}, {}, {}])}, "Object arrays cannot be loaded"),
        ({"image_size": "big"}, "invalid literal"),
    ],
)
def test_other_entries_are_refused_in_a_sentence(changes: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **entries(**changes))
    with pytest.raises(RequestError, match=rf"cannot read predictions from .*p\.npz: .*{message}.*; move it away"):
        read_predictions(tmp_path / "p.npz")


def test_older_predictions_are_of_images_with_their_shorter_side_resized(tmp_path: Path) -> None:
    np.savez(tmp_path / "older.npz", **entries())
    older = read_predictions(tmp_path / "older.npz")
    assert older.images.resize == "shorter_side"
    squeezed = dataclasses.replace(older.images, resize="squeeze")
    write_predictions(tmp_path / "new.npz", dataclasses.replace(older, images=squeezed))
    assert read_predictions(tmp_path / "new.npz").images == squeezed


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "p.npz"
    np.savez_compressed(file, **entries(labels=np.arange(3000, dtype=np.uint16)))
    whole = file.read_bytes()
    for damaged in (b"", b"text", whole[:500], whole[:900] + bytes(500) + whole[1400:]):
        file.write_bytes(damaged)
        with pytest.raises(RequestError, match="cannot read predictions from"):
            read_predictions(file)
    np.savez_compressed(file, **entries())
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 10] = 99  # the first entry's compression
    file.write_bytes(whole)
    with pytest.raises(RequestError, match="compression method is not supported"):
        read_predictions(file)
