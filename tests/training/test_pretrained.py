"""Fine-tuning from torchvision's files and our own runs; errors of unsuitable files."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from roadmap.__main__ import main
from roadmap.config.build import build
from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.schema.experiment import Experiment
from roadmap.training.build import build_trainer, initial_network, load_pretrained
from roadmap.training.run import run_experiment
from roadmap.training.trainer import Trainer
from tests.faults.kill_and_resume import differences
from tests.processes import interrupt

CONVNEXT_T = ["regime=tiny", "step=separate_downsampling", "recipe=finetune_22k_224"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, ten classes, with averaged weights."""
    runs_dir = tmp_path_factory.mktemp("trained")
    request = ["step=separate_downsampling", "epochs=1", "batch_size=32", "recipe.ema_decay=0.9", "seed=3"]
    return run_experiment(compose([*request, f"runs_dir={runs_dir}"]))[1].path


@pytest.fixture(scope="module")
def weights(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of its checkpoint outside the run's folder, under a name that needs no quotes."""
    return Path(shutil.copy(trained / "checkpoints" / "last.pt", tmp_path_factory.mktemp("weights") / "digits.pt"))


def fine_tuning(photos: Path, weights: Path, runs_dir: Path, *overrides: str) -> list[str]:
    """Return overrides to fine-tune a network of ten classes on 24 photographs of two classes."""
    request = ["step=separate_downsampling", "recipe=finetune_22k_224", "regime=nano", "data=imagefolder"]
    request += [f"data.root={photos}", "batch_size=4", "epochs=2", "num_workers=0", f"pretrained='{weights}'"]
    return [*request, f"runs_dir={runs_dir}", *overrides]


def trainer(experiment: Experiment) -> Trainer:
    return build_trainer(experiment, open_loaders(experiment, CPU), CPU)


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = torchvision.models.convnext_tiny()
    torch.nn.init.normal_(network.classifier[2].bias)
    file = tmp_path_factory.mktemp("torchvision") / "convnext_tiny.pth"
    torch.save(network.state_dict(), file)
    return file


def test_torchvision_weights_with_a_new_head(torchvision_file: Path) -> None:
    theirs = torch.load(torchvision_file, weights_only=True)
    ours = build(*CONVNEXT_T, num_classes=7)
    before = ours.head.weight.detach().clone()
    assert load_pretrained(ours, str(torchvision_file)) == (
        f"starting from the weights of {torchvision_file}; the head is new, as the number of classes differs"
    )
    assert torch.equal(ours.head.weight, before)
    assert ours.head.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.1)
    assert ours.head.bias.abs().max() == 0
    assert torch.equal(ours.norm.weight, theirs["classifier.0.weight"])
    assert torch.equal(ours.stages[2][8].branch.spatial.weight, theirs["features.5.8.block.0.weight"])


def test_weights_of_a_run_with_a_new_head(
    trained: Path, photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All weights are the averaged ones except for the head, which is drawn from the run's seed."""
    caplog.set_level("INFO", "roadmap")
    experiment = compose(fine_tuning(photo_folder, trained, tmp_path)).experiment()
    started = trainer(experiment).parts.network.state_dict()
    average = torch.load(trained / "checkpoints" / "last.pt", weights_only=True)["ema"]
    fresh = initial_network(experiment.replace(pretrained=None), 2, CPU).state_dict()
    for name, tensor in started.items():
        assert torch.equal(tensor, fresh[name] if name.startswith("head.") else average[name]), name
    (message,) = (message for message in caplog.messages if message.startswith("starting from"))
    assert message.startswith(f"starting from the averaged weights of {trained}/checkpoints/last.pt; the head is new")
    average_of_start = trainer(
        compose(fine_tuning(photo_folder, trained, tmp_path, "recipe.ema_decay=0.9")).experiment()
    )
    assert average_of_start.parts.ema is not None
    assert torch.equal(average_of_start.parts.ema.network.state_dict()["norm.weight"], started["norm.weight"])


def test_head_with_the_same_classes_is_loaded(trained: Path, tmp_path: Path) -> None:
    """From the averaged weights, or from a checkpoint's network if it has none."""
    state = torch.load(trained / "checkpoints" / "last.pt", weights_only=True)
    torch.save(state | {"ema": None}, tmp_path / "plain.pt")
    network = build("step=separate_downsampling")
    load_pretrained(network, str(trained))
    assert torch.equal(network.get_parameter("head.weight"), state["ema"]["head.weight"])
    assert load_pretrained(network, str(tmp_path / "plain.pt")) == f"starting from the weights of {tmp_path}/plain.pt"
    own: dict[str, Tensor] = state["network"]
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())


def test_resumed_run_uses_its_own_checkpoint(weights: Path, photo_folder: Path, tmp_path: Path) -> None:
    summary, whole = run_experiment(compose(fine_tuning(photo_folder, weights, tmp_path / "whole")))
    assert summary["pretrained"] == str(weights)
    assert len(summary["definition"]["pretrained"]) == 64
    folder = interrupt(fine_tuning(photo_folder, weights, tmp_path / "parts"), after=7)
    run_experiment(compose(fine_tuning(photo_folder, weights, tmp_path / "parts")))
    assert differences(whole.path, folder) == []


def test_run_id_depends_on_content_not_path(trained: Path, weights: Path, tmp_path: Path) -> None:
    def identity(*overrides: str) -> str:
        return compose(["step=separate_downsampling", *overrides]).experiment().run_id

    elsewhere = shutil.copy(weights, tmp_path / "elsewhere.pt")
    other = tmp_path / "other.pt"
    torch.save(torch.load(weights, weights_only=True)["network"], other)
    named = identity(f"pretrained={weights}")
    assert identity(f"pretrained={elsewhere}") == named
    assert identity(f"pretrained='{trained}'") == named, "a run's folder means its last checkpoint"
    assert identity(f"pretrained={other}") != named
    assert identity() != named
    assert "pretrained" not in compose([]).experiment().definition


@pytest.mark.parametrize(
    ("file", "overrides", "message"),
    [
        ("nowhere.pt", [], r"pretrained=\S+/nowhere\.pt: no file \S+/nowhere\.pt; choose a weights file or a run"),
        ("folder", [], r"pretrained=\S+/folder: no file \S+/last\.pt; a run folder has its checkpoint there"),
        ("list.pt", [], r"\S+/list\.pt must contain a state dict \(found a list\)"),
        ("dict.pt", [], r"pretrained=\S+: not a state dict: it must map names to tensors"),
        ("digits.pt", ["norm=batch"], r"pretrained=\S+: these weights .* do not match the network: missing .*running"),
        ("digits.pt", ["kernel=k5"], r"pretrained=\S+: these weights .* has shape \(24, 1, 7, 7\), expected"),
    ],
)
def test_unsuitable_weights_are_one_line_and_leave_no_folder(
    file: str,
    overrides: list[str],
    message: str,
    weights: Path,
    photo_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1}, tmp_path / "dict.pt")
    shutil.copy(weights, tmp_path / "digits.pt")
    runs_dir = tmp_path / "runs"
    assert main(["train", *fine_tuning(photo_folder, tmp_path / file, runs_dir, *overrides)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert not runs_dir.exists()
