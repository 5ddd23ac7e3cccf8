"""Evaluation, compared with scikit-learn, with the trainer and with values computed by hand."""

import json
import math
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss, recall_score, top_k_accuracy_score
from torch import Tensor, nn

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.errors import RequestError
from roadmap.evaluation.calibration import calibration_error
from roadmap.evaluation.evaluate import MaskedLogits, class_accuracies, evaluate_tasks
from roadmap.evaluation.load_trained import TrainedModel, load_checkpoint, load_pretrained, load_run
from roadmap.evaluation.task import EvaluationRequest, EvaluationTask, evaluation_request, evaluation_task
from roadmap.runs.evaluations import EvaluatedImages, Predictions, read_evaluation, read_predictions
from roadmap.runtime.distributed import SINGLE_PROCESS
from roadmap.schema.experiment import EvalSettings
from roadmap.training.build import build_trainer
from roadmap.training.evaluator import PredictionCollector, evaluate_networks
from roadmap.training.run import run_experiment
from tests.processes import in_processes

CPU = torch.device("cpu")
QUICK = ["step=separate_downsampling", "epochs=3", "batch_size=32", "recipe.ema_decay=0.9"]
FIGURES = ("top1", "top5", "loss", "ece")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with averaged weights."""
    runs_dir = tmp_path_factory.mktemp("evaluated")
    run_experiment(compose([*QUICK, f"runs_dir={runs_dir}"]))
    (folder,) = runs_dir.glob("nano-*")
    return folder


@pytest.fixture(scope="module")
def plain() -> EvaluationRequest:
    return evaluation_request([])


def record_of(one: EvaluationTask, force: bool = False) -> dict:
    ((record, _),) = evaluate_tasks([one], CPU, SINGLE_PROCESS, force)
    return record


def probabilities_of(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The network's probabilities (n, 10) on the test images, by a plain loop, and the labels."""
    experiment = compose(QUICK).experiment()
    trainer = build_trainer(experiment, open_loaders(experiment, CPU), CPU)
    trainer.load_state_dict(torch.load(run / "checkpoints" / "last.pt", weights_only=True))
    network = trainer.parts.network.eval()
    with torch.no_grad():
        batches = [(network(images).double(), labels) for images, labels in trainer.loaders.val.batches()]
    logits, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    return logits.softmax(1).numpy(), labels.numpy()


def calibration_by_sklearn(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """The error from scikit-learn's reliability curve and a histogram of its own."""
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=bins)
    counts, _ = np.histogram(confidence, np.linspace(0, 1, bins + 1))
    return float(100 * np.sum(counts[counts > 0] * np.abs(accuracy - mean_confidence)) / len(confidence))


def test_metrics_equal_sklearns(run: Path, plain: EvaluationRequest) -> None:
    record = record_of(evaluation_task(load_run(run), plain))
    (part,) = record["parts"]
    probabilities, labels = probabilities_of(run)
    predicted = probabilities.argmax(1)
    assert part["images"] == 1200
    assert part["top1"] == pytest.approx(100 * accuracy_score(labels, predicted), abs=1e-9)
    assert part["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, probabilities, k=5), abs=1e-9)
    assert part["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-5)
    recall = recall_score(labels, predicted, average=None, zero_division=0)
    assert record["class_top1"] == pytest.approx(list(100 * recall), abs=1e-9)
    assert record["class_images"] == np.bincount(labels).tolist()
    expected = calibration_by_sklearn(probabilities.max(1), predicted == labels, 15)
    assert part["ece"] == pytest.approx(expected, abs=1e-3)


def test_last_checkpoint_reproduces_the_logged_metrics_exactly(run: Path, plain: EvaluationRequest) -> None:
    summary_before = (run / "summary.json").read_bytes()
    record = record_of(evaluation_task(load_run(run), plain))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    (part,) = record["parts"]
    assert (part["top1"], part["top5"], part["loss"]) == (last["top1"], last["top5"], last["val_loss"])
    averaged = record_of(evaluation_task(load_run(run, averaged=True), plain))["parts"][0]
    assert (averaged["top1"], averaged["loss"]) == (last["ema_top1"], last["ema_val_loss"])
    assert averaged["top1"] != part["top1"], "two sets of weights"
    assert (run / "summary.json").read_bytes() == summary_before


def test_each_task_has_one_record_that_is_reused(run: Path, plain: EvaluationRequest) -> None:
    one = evaluation_task(load_run(run), plain)
    record_of(one)
    written = one.file.read_bytes()
    assert one.file.parent == run / "evaluations"
    ((_, existed),) = evaluate_tasks([one], CPU, SINGLE_PROCESS, force=False)
    assert existed
    assert one.file.read_bytes() == written
    larger = evaluation_task(load_run(run), plain.replace(image_size=40, crop_ratio=0.8))
    ((record, existed),) = evaluate_tasks([larger], CPU, SINGLE_PROCESS, force=False)
    assert not existed
    assert (record["image_size"], record["crop_ratio"]) == (40, 0.8)
    assert larger.file != one.file
    squeezed = evaluation_task(load_run(run), plain.replace(resize="squeeze"))
    ((record, existed),) = evaluate_tasks([squeezed], CPU, SINGLE_PROCESS, force=False)
    assert not existed
    assert record["resize"] == "squeeze"
    assert squeezed.conditions != one.conditions, "nor compared with it"
    assert "resize" not in one.definition, "older records keep their keys"
    one.file.write_text(one.file.read_text()[:100])
    ((_, existed),) = evaluate_tasks([one], CPU, SINGLE_PROCESS, force=False)
    assert not existed, "a truncated record is ignored"
    assert read_evaluation(one.file)


def test_key_depends_only_on_what_defines_the_result(run: Path, plain: EvaluationRequest) -> None:
    trained = load_run(run)
    keys = {
        name: evaluation_task(trained, request).key
        for name, request in {
            "plain": plain,
            "placed": plain.replace(channels_last=False, batch_size=100, num_workers=0, save_predictions=True),
            "precision": plain.replace(precision="bf16"),
            "size": plain.replace(image_size=64),
            "corrupted": plain.replace(corruptions=("fog",), severities=(1,)),
        }.items()
    }
    assert keys.pop("placed") == keys["plain"]
    assert len(set(keys.values())) == len(keys)
    assert evaluation_task(load_run(run, averaged=True), plain).key != keys["plain"]
    twice = [plain.replace(corruptions=names) for names in (("fog", "snow"), ("snow", "fog", "snow"))]
    assert len({evaluation_task(trained, request).key for request in twice}) == 1, "the order has no effect"


def test_predictions_are_saved_and_required(run: Path, plain: EvaluationRequest) -> None:
    request = plain.replace(corruptions=("contrast",), severities=(5,), save_predictions=True)
    one = evaluation_task(load_run(run), request)
    whole, corrupted = record_of(one, force=True)["parts"]
    predictions = read_predictions(one.file.with_suffix(".npz"))
    assert predictions.top1 == whole["top1"]
    assert (predictions.images.data, predictions.images.image_size) == ("digits", 32)
    harder = read_predictions(one.file.with_suffix("") / "contrast-5.npz")
    assert harder.top1 == corrupted["top1"]
    assert harder.images.data == "digits/contrast/5"
    assert one.existing_record()
    shutil.rmtree(one.file.with_suffix(""))
    assert not one.existing_record(), "missing predictions are written again"
    assert replace(one, save_predictions=False).existing_record()


def test_networks_share_one_pass_over_the_images(
    run: Path, plain: EvaluationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import roadmap.data.eval_splits as parts

    opened = []
    loader = parts.build_val_loader
    monkeypatch.setattr(parts, "build_val_loader", lambda *given: opened.append(given) or loader(*given))
    request = plain.replace(corruptions=("pixelate",), severities=(3,))
    tasks = [evaluation_task(load_run(run), request), evaluation_task(load_run(run, averaged=True), request)]
    together = [record for record, _ in evaluate_tasks(tasks, CPU, SINGLE_PROCESS, force=True)]
    assert len(opened) == 2, "the images as they are and corrupted, once each"
    alone = [record_of(one, force=True) for one in tasks]
    for ours, own in zip(together, alone, strict=True):
        for one, other in zip(ours["parts"], own["parts"], strict=True):
            assert [one[name] for name in FIGURES] == [other[name] for name in FIGURES]


def test_best_checkpoint_is_marked_as_chosen_on_these_images(run: Path, plain: EvaluationRequest) -> None:
    record = record_of(evaluation_task(load_checkpoint(run / "checkpoints" / "best.pt"), plain))
    assert record["checkpoint"]["file"] == "best.pt"
    assert record["chosen_on_these_images"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert record["parts"][0]["top1"] == max(row["top1"] for row in rows)
    elsewhere = record_of(evaluation_task(load_run(run, "best"), plain.replace(data={"holdout": 0.5})))
    assert not elsewhere["chosen_on_these_images"]
    assert elsewhere["parts"][0]["images"] == 179


def test_weights_without_a_run(run: Path, plain: EvaluationRequest, tmp_path: Path) -> None:
    """From a state dict, also nested as in the official repository's files."""
    weights, nested = tmp_path / "weights.pt", tmp_path / "nested.pt"
    network = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["network"]
    torch.save(network, weights)
    torch.save({"model": network}, nested)
    for file in (weights, nested):
        loose = load_pretrained(compose([*QUICK, f"pretrained={file}"]))
        record = record_of(evaluation_task(loose, plain, tmp_path / "out" / f"{file.stem}.json"))
        assert (tmp_path / "out" / f"{file.stem}.json").is_file()
        assert record["parts"][0]["top1"] == json.loads((run / "summary.json").read_text())["top1"]
    other = load_pretrained(compose(["step=resnet50", f"pretrained={weights}"]))
    with pytest.raises(RequestError, match="pretrained="):
        record_of(evaluation_task(other, plain, tmp_path / "no.json"))


def test_library_weights_use_their_own_transform(
    plain: EvaluationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    network = torchvision.models.shufflenet_v2_x0_5()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth")
    words = ["model=torchvision", "name=shufflenet_v2_x0_5", "pretrained=library"]
    model = load_pretrained(compose(words))
    assert (model.settings.image_size, model.settings.crop_ratio, model.num_classes) == (224, 0.875, 1000)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.make(64, 1000).eval()(images), network.eval()(images))
    assert evaluation_task(model, plain.replace(image_size=160)).settings.image_size == 160


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["step=gelu"], "step= is not a setting of an evaluation (choose"),
        (["data.mean=[0,0,0]"], "data.mean cannot be changed"),
        (["crop_ratio=1.5"], "crop_ratio must be at most 1 (got 1.5)"),
        (["weights=ema"], "unknown weights 'ema' (choose averaged or network)"),
        (["corruptions=[rain]"], "unknown corruption 'rain'"),
        (["corruptions=[fog]", "severities=[6]"], "severities[0] must be at most 5 (got 6)"),
        (["corruptions=[frost]"], "frost=FOLDER"),
        (["severities=[1]"], "severities= requires corruptions="),
    ],
)
def test_invalid_requests_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(RequestError) as met:
        _ = evaluation_request(words).corrupted
    assert sentence in str(met.value)
    assert "\n" not in str(met.value)


def test_other_classes_and_too_small_images_are_refused(
    run: Path, plain: EvaluationRequest, photo_folder: Path
) -> None:
    trained = load_run(run)
    photographs = evaluation_request(["data=imagefolder", f"data.root={photo_folder}"])
    with pytest.raises(RequestError, match="has 10 classes, but imagefolder has 2"):
        record_of(evaluation_task(trained, photographs))
    with pytest.raises(RequestError, match=r"image_size=8: .*cannot take images of this size"):
        record_of(evaluation_task(trained, plain.replace(image_size=8)))


def test_unusable_checkpoints_are_refused(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    file = copied / "checkpoints" / "last.pt"
    shutil.move(copied / "summary.json", tmp_path)
    with pytest.raises(RequestError, match="is not a run's folder"):
        load_checkpoint(file)
    shutil.move(tmp_path / "summary.json", copied)
    state = torch.load(file, weights_only=True)
    torch.save(state | {"ema": None}, file)
    with pytest.raises(RequestError, match=r"has no averaged weights \(its recipe has no EMA\)"):
        load_run(copied, averaged=True)
    torch.save(state | {"run_id": "0123456789"}, file)
    with pytest.raises(RequestError, match="belongs to run 0123456789"):
        load_run(copied)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RequestError, match="is not a weights file, or is damaged"):
        load_run(copied)
    summary = json.loads((copied / "summary.json").read_text())
    (copied / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))
    with pytest.raises(RequestError, match="is interrupted, not finished; to evaluate it anyway"):
        load_run(copied)


def test_calibration_error_equals_hand_computation() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.54, 0.58])
    correct = np.array([True, True, True, False, False, True])
    # two bins of fifteen: |0.95 - 0.75| for four of six, |0.56 - 0.5| for two of six
    assert calibration_error(confidence, correct) == pytest.approx(100 * (4 / 6 * 0.20 + 2 / 6 * 0.06))
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0
    assert calibration_error(np.ones(4), np.array([True, False, False, False])) == pytest.approx(75)
    # a bin is open below and closed above
    assert calibration_error(np.array([0.5, 0.500001]), np.array([True, False]), bins=2) == pytest.approx(50, abs=1e-3)


def test_classes_without_images_have_no_accuracy() -> None:
    images, accuracies = class_accuracies(np.array([0, 0, 2]), np.array([True, False, True]), 4)
    assert (images, accuracies) == ([2, 0, 1, 0], [50.0, None, 100.0, None])


def evaluated(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[dict[str, Any], Predictions]:
    loader: Any = SimpleNamespace(batches=lambda: iter(batches), left_out=[])
    collector = PredictionCollector()
    (row,) = evaluate_networks([network], loader, [collector], nullcontext, CPU, SINGLE_PROCESS)
    return row, collector.gathered(EvaluatedImages("made", "", 32, 1.0, ()), SINGLE_PROCESS)


def test_masked_classes_are_never_predicted() -> None:
    logits = torch.tensor([[9.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 5.0, 0.0, 0.0, 0.0]])
    labels = torch.tensor([2, 3])
    whole, _ = evaluated(nn.Identity(), [(logits, labels)])
    record, answered = evaluated(MaskedLogits(nn.Identity(), (1, 2, 3)), [(logits, labels)])
    assert whole["top1"] == 0
    assert record["top1"] == 50
    assert answered.predicted.tolist() == [2, 1]
    two = [math.exp(one) for one in (1, 2, 0)]
    assert answered.confidence[0] == pytest.approx(two[1] / sum(two))
    own = nn.functional.cross_entropy(logits[:, 1:4], labels - 1).item()
    assert record["val_loss"] == pytest.approx(own)


class Shades(nn.Module):
    """1,000 logits by how bright an image's middle is: the class in its grey level wins."""

    def forward(self, images: Tensor) -> Tensor:
        grey = images[:, :, 12:20, 12:20].mean(dim=(1, 2, 3)) * 255
        return -(grey[:, None] - torch.arange(1000)).abs()


@pytest.fixture(scope="module")
def shades() -> TrainedModel:
    """A network that was not trained, for ImageNet's classes."""
    settings = EvalSettings(
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
    return TrainedModel("shades", lambda size, classes: Shades(), 1000, None, settings, {"file": "none", "epoch": None})


def class_folders(root: Path, levels: dict[str, int]) -> None:
    """An image of one grey level in each class folder."""
    for name, level in levels.items():
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(root / name / "one.png")


def test_published_corruptions_are_evaluated_in_parts(shades: TrainedModel, tmp_path: Path) -> None:
    # classes 0, 1 and 6 by their WordNet ids; the last is too bright for its class
    for severity in (1, 2):
        levels = {"n01440764": 0, "n01443537": 1, "n01498041": 6 + 200 * (severity == 2)}
        class_folders(tmp_path / "c" / "fog" / str(severity), levels)
    fields = ["data=imagenet_c", f"data.root={tmp_path / 'c'}", "data.corruptions=[fog]", "data.severities=[1,2]"]
    request = evaluation_request([*fields, "data.images=null"])
    record = record_of(evaluation_task(shades, request, tmp_path / "c.json"))
    assert [(part["part"], part["images"], round(part["top1"])) for part in record["parts"]] == [
        ("fog/1", 3, 100),
        ("fog/2", 3, 67),
    ]
    assert record["crop_ratio"] == 1.0
    with pytest.raises(RequestError, match="conflicts with data=imagenet_c, whose images are published cropped"):
        evaluation_task(shades, request.replace(crop_ratio=0.5))


def test_class_folders_need_only_val(shades: TrainedModel, tmp_path: Path) -> None:
    class_folders(tmp_path / "val", {"a": 0, "b": 1, "c": 7})
    request = evaluation_request(["data=imagefolder", f"data.root={tmp_path}"])
    record = record_of(evaluation_task(replace(shades, num_classes=3), request, tmp_path / "folder.json"))
    assert record["class_top1"] == [100.0, 100.0, 0.0]


def test_any_accepted_label_is_correct(shades: TrainedModel, tmp_path: Path) -> None:
    """Four images, of which the last has no label in ReaL."""
    folder = tmp_path / "val" / "n01440764"
    folder.mkdir(parents=True)
    for number, level in enumerate((0, 1, 2, 3), start=1):
        image = Image.fromarray(np.full((40, 40, 3), level, np.uint8))
        image.save(folder / f"ILSVRC2012_val_0000000{number}.JPEG", quality=100)
    (tmp_path / "real.json").write_text(json.dumps([[0], [0, 1], [0, 4], []]))
    request = evaluation_request(["data=imagenet_real", f"data.root={tmp_path}", "data.images=null"])
    (part,) = record_of(evaluation_task(shades, request, tmp_path / "record.json"))["parts"]
    assert (part["images"], part["top5"], part["loss"], part["ece"]) == (3, None, None, None)
    assert part["top1"] == pytest.approx(200 / 3)


def test_batch_sizes_do_not_change_the_means() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 8, generator=generator), torch.arange(7)
    batches = list(zip(logits.split([3, 4]), labels.split([3, 4]), strict=True))
    row, predictions = evaluated(nn.Identity(), batches)
    assert row["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)
    assert predictions.predicted.tolist() == logits.argmax(1).tolist()


def test_two_processes_count_each_image_once(run: Path, plain: EvaluationRequest, tmp_path: Path) -> None:
    # 25 images a batch: the processes' shares are not cut alike
    request = plain.replace(corruptions=("contrast",), severities=(2,), batch_size=100)

    def work() -> None:
        from roadmap.runtime.distributed import init_processes

        one = evaluation_task(load_run(run), request, tmp_path / "two.json")
        evaluate_tasks([one], CPU, init_processes(CPU), force=True)

    assert in_processes(2, work) == [0, 0]
    two = json.loads((tmp_path / "two.json").read_text())
    one = record_of(evaluation_task(load_run(run), request, tmp_path / "one.json"))
    assert two["processes"] == 2
    for ours, theirs in zip(two["parts"], one["parts"], strict=True):
        assert [ours[name] for name in ("images", "top1", "top5")] == [
            theirs[name] for name in ("images", "top1", "top5")
        ]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["ece"] == pytest.approx(theirs["ece"], rel=1e-3)
    saved, own = (read_predictions(tmp_path / f"{name}.npz") for name in ("two", "one"))
    assert saved.predicted.tolist() == own.predicted.tolist()
