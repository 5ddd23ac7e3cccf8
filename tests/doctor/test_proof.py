"""The proof's checks on the CPU: each passes, and each can fail."""

import dataclasses
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT

import pytest
import torch
from torch import Tensor, nn

from roadmap.doctor import proof, runs, speed
from roadmap.doctor.checks import CPU, Check, Row, SkippedError, Subject, Verdict, go_through, render
from roadmap.errors import StoppedError, WorkError
from roadmap.training import assembly
from roadmap.training.trainer import Trainer

DEVICE = torch.device("cpu")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    scale = dataclasses.replace(CPU, photos=24, photo_run=("image_size=32", "batch_size=8"))
    scale = dataclasses.replace(scale, batch=4, image_size=32, cell_seconds=0.0, warmup=0, matrix=64)
    return Subject(DEVICE, scale, tmp_path)


@pytest.fixture
def three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = proof.compose_path(["regime=nano"])[::8]
    monkeypatch.setattr(proof, "compose_path", lambda overrides: steps)


@pytest.mark.usefixtures("three_steps")
def test_logits_agree_and_one_channel_a_hundredth_off_is_seen(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = proof.logits(subject)
    assert verdict.ok
    assert len(verdict.numbers["errors"]) == 3
    plain = proof.placed

    def off(network: nn.Module, *where: object) -> nn.Module:
        with torch.no_grad():
            network.stem.conv.weight[0] *= 1.01
        return plain(network, *where)

    monkeypatch.setattr(proof, "placed", off)
    assert not proof.logits(subject).ok


def test_a_logit_that_is_no_number_is_infinitely_wrong() -> None:
    good = torch.ones(2)
    assert proof.relative_error(good, torch.tensor([1.0, torch.nan])) == torch.inf
    assert proof.relative_error(good, torch.tensor([1.0, 0.5])) == 0.5


def test_shaking_makes_blocks_count() -> None:
    """As a network starts, a block of ConvNeXt changes its input by a millionth."""
    network = proof.build("regime=nano", "step=separate_downsampling").eval()
    batch = proof.images(2, 32)

    def effect() -> float:
        plain = network(batch)
        weight = network.stages[1][0].branch.leave.weight
        with torch.no_grad():
            weight.neg_()
        changed = network(batch)
        with torch.no_grad():
            weight.neg_()
        return proof.relative_error(plain, changed)

    assert effect() < 1e-4
    proof.shaken(network)
    assert effect() > 1e-2


@pytest.fixture
def second_trainer_changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Trainer], object]], None]:
    """Changes every second trainer that the proof makes: the device's."""

    def install(change: Callable[[Trainer], object]) -> None:
        made = 0
        plain = proof.build_trainer

        def build(*arguments: object) -> Trainer:
            nonlocal made
            made += 1
            trainer = plain(*arguments)
            if made % 2 == 0:
                change(trainer)
            return trainer

        monkeypatch.setattr(proof, "build_trainer", build)

    return install


Install = Callable[[Callable[[Trainer], object]], None]


def longer_steps(trainer: Trainer) -> None:
    trainer.schedule.lr_lambdas = [
        lambda update, plain=plain: 1.01 * plain(update) for plain in trainer.schedule.lr_lambdas
    ]
    for group in trainer.optimizer.param_groups:
        group["lr"] *= 1.01


def forgets_the_head(trainer: Trainer) -> None:
    trainer.network.head.bias.requires_grad_(False)


@pytest.mark.parametrize("double", [True, False])
def test_ten_updates_agree(double: bool, subject: Subject) -> None:
    requests = proof.IN_FP64[:1] if double else proof.IN_FP32[1:2]
    assert proof.updates(subject, requests, double=double).ok


@pytest.mark.parametrize("change", [longer_steps, forgets_the_head])
@pytest.mark.parametrize("double", [True, False])
def test_ten_updates_can_differ(
    change: Callable[[Trainer], None], double: bool, subject: Subject, second_trainer_changed: Install
) -> None:
    second_trainer_changed(change)
    requests = proof.IN_FP64[:1] if double else proof.IN_FP32[1:2]
    assert not proof.updates(subject, requests, double=double).ok


def test_batches_can_differ(subject: Subject, second_trainer_changed: Install) -> None:
    assert proof.batches(subject).ok
    second_trainer_changed(lambda trainer: trainer.train.normalise.mean.add_(0.1))
    assert not proof.batches(subject).ok


@pytest.mark.long
def test_autocast_can_stray(subject: Subject, second_trainer_changed: Install) -> None:
    assert proof.autocast(subject, "bf16").ok
    second_trainer_changed(lambda trainer: trainer.network.head.weight.data.mul_(8))
    assert not proof.autocast(subject, "bf16").ok


def test_a_scaler_that_lets_infinity_through(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof.scaler(subject).ok
    plain = proof.trainer_on

    def without(*arguments: object) -> Trainer:
        trainer = plain(*arguments)
        trainer.scaler = torch.amp.GradScaler("cpu", enabled=False)
        return trainer

    monkeypatch.setattr(proof, "trainer_on", without)
    assert not proof.scaler(subject).ok


def test_a_memory_format_that_mixes_up_channels(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof.channels_last(subject, regime="nano").ok
    plain = proof.placed

    def mixed_up(network: nn.Module, device: torch.device, memory_format: torch.memory_format) -> nn.Module:
        if memory_format == torch.channels_last:
            network.stem.conv.weight.data = network.stem.conv.weight.data.flip(0)
        return plain(network, device, memory_format)

    monkeypatch.setattr(proof, "placed", mixed_up)
    assert not proof.channels_last(subject, regime="nano").ok


class Off(nn.Module):
    """Another network's output a thousandth too large, or its gradients a tenth."""

    def __init__(self, network: nn.Module, gradients: bool):
        super().__init__()
        self.network, self.gradients = network, gradients

    def forward(self, batch: Tensor) -> Tensor:
        logits = self.network(batch)
        return logits * 1.1 - logits.detach() * 0.1 if self.gradients else logits * 1.001


@pytest.mark.parametrize("gradients", [True, False])
def test_a_compiler_that_is_wrong(gradients: bool, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)
    assert proof.compiled(subject).ok
    monkeypatch.setattr(torch, "compile", lambda network: Off(network, gradients))
    assert not proof.compiled(subject).ok


def test_an_average_of_another_decay(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof.average(subject).ok
    plain = assembly.get_ema_multi_avg_fn
    monkeypatch.setattr(assembly, "get_ema_multi_avg_fn", lambda decay: plain(decay + 1e-4))
    assert not proof.average(subject).ok


def test_a_resume_that_is_exact_and_one_that_forgets_the_average(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = runs.resume(subject)
    assert verdict.ok, verdict.sentence
    assert verdict.sentence.startswith("stopped after update 3 of epoch 2, resumed: equal to the bit")
    plain = Trainer.load_state

    def forgets(trainer: Trainer, state: dict) -> None:
        plain(trainer, state)
        assert trainer.ema is not None
        trainer.ema.n_averaged.zero_()

    monkeypatch.setattr(Trainer, "load_state", forgets)
    shutil.rmtree(subject.folder / "stopped")
    verdict = runs.resume(subject)
    assert not verdict.ok
    assert verdict.numbers["apart"]["network"] == 0 < verdict.numbers["apart"]["ema"]


def test_a_run_that_was_never_stopped_proves_nothing(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RUN", ("epochs=1", "recipe.ema_decay=0.9"))
    assert runs.resume(subject, looks=1000).ok is False


@pytest.mark.long
@pytest.mark.parametrize(("more", "ok"), [((), True), (("seed=1",), False)])
def test_two_processes_are_compared(
    more: tuple[str, ...], ok: bool, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow test launches them really."""
    monkeypatch.setattr(runs, "RUN", (*runs.RUN, "epochs=1"))
    monkeypatch.setattr(runs, "launch", runs.train)
    assert runs.two_processes(subject, *more).ok is ok


def test_one_gpu_is_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SkippedError, match="wants two GPUs"):
        runs.two_processes(Subject(torch.device("cuda"), CPU, tmp_path))


@pytest.mark.slow
def test_what_a_launch_said_is_told(subject: Subject) -> None:
    with pytest.raises(RuntimeError, match=r"torchrun ended with 1: roadmap: batch_size=3 does not divide"):
        runs.launch(subject, "odd", "batch_size=3")


@pytest.mark.slow
def test_processes_that_hang_are_ended(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LAUNCH_SECONDS", 25)
    with pytest.raises(RuntimeError, match="two processes had not ended after 25 s"):
        runs.launch(subject, "long", "epochs=100000")
    left = subprocess.run(["pgrep", "-f", str(subject.folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_the_share_of_waiting_comes_from_the_run(subject: Subject) -> None:
    verdict = runs.loader(subject)
    assert verdict.ok is None
    assert 0 < verdict.numbers["data_wait"] < 1
    assert verdict.numbers["images_per_second"] > 0


class Greedy(nn.Module):
    """Has memory for so many images."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.head = most, nn.Conv2d(3, 1000, 32)

    def forward(self, batch: Tensor) -> Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("no room")
        return self.head(batch).flatten(1)


@pytest.mark.parametrize("training", [True, False])
def test_a_cell_halves_its_batch_until_it_fits(
    training: bool, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "builders", lambda name: {"ours": lambda: Greedy(4), "torchvision": lambda: Greedy(1)})
    assert speed.matrix_peak(subject, repeats=2).ok is None
    verdict = speed.measure(subject, speed.Cell("any", training, "fp32", compiled=False))
    assert verdict.numbers["batch"] == 1
    assert verdict.sentence.endswith("batch 1 (for want of memory, not 4)")
    rate, times = verdict.numbers["images_per_second"]["ours"], 3 if training else 1
    share = times * 2 * 3 * 32 * 32 * 1000 * rate / subject.peaks["fp32"]
    assert verdict.numbers["share_of_peak"]["ours"] == pytest.approx(share)
    assert verdict.numbers["ratio"]["torchvision"] == pytest.approx(
        rate / verdict.numbers["images_per_second"]["torchvision"]
    )


def test_no_room_for_one_image_is_an_error(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "builders", lambda name: {"ours": lambda: Greedy(0)})
    with pytest.raises(torch.OutOfMemoryError):
        speed.measure(subject, speed.Cell("any", False, "fp32", compiled=False))


def test_a_cell_that_would_end_too_late_is_left_out(subject: Subject) -> None:
    late = dataclasses.replace(subject, began=time.monotonic() - subject.scale.seconds)
    with pytest.raises(SkippedError, match=r"the proof ends within 1800 s; started again it gets further"):
        speed.measure(late, speed.Cell("ResNet-50", True, "bf16", compiled=True))


def test_compiled_cells_come_last_and_only_on_a_gpu(subject: Subject) -> None:
    on_cpu = [check.name for check in speed.checks(subject)]
    assert on_cpu[:2] == ["matrix peak", "ConvNeXt-T training bf16"]
    assert len(on_cpu) == 9
    gpu = Subject(torch.device("cuda"), dataclasses.replace(subject.scale, compiled=True), subject.folder)
    on_gpu = [check.name for check in speed.checks(gpu)]
    assert len(on_gpu) == 17
    assert on_gpu[8] == "ResNet-50 inference TF32"
    assert all(name.endswith("compiled") for name in on_gpu[9:])


def raising(error: BaseException) -> Callable[[Subject], Verdict]:
    def run(subject: Subject) -> Verdict:
        raise error

    return run


def test_a_failing_check_leaves_the_others_running(subject: Subject, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        Check("good", lambda subject: Verdict(True, "equal", {"error": 0.0})),
        Check("bad", lambda subject: Verdict(False, "2 apart")),
        Check("broken", raising(RuntimeError("CUDA error: no kernel\nmore of it"))),
        Check("absent", raising(SkippedError("one GPU"))),
        Check("speed", lambda subject: Verdict(None, "3 images/s")),
    ]
    rows = go_through(checks, subject)
    assert [row.outcome for row in rows] == ["pass", "fail", "fail", "skipped", "measured"]
    assert rows[2].sentence == "RuntimeError: CUDA error: no kernel"
    assert "[4/5] absent: skipped, one GPU (0.0 s)" in capsys.readouterr().err
    assert render(rows).splitlines()[-1] == "1 pass, 2 fail, 1 skipped, 1 measured"
    assert rows[0] == Row("good", "pass", "equal", {"error": 0.0}, rows[0].seconds)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StoppedError(SIGINT, "update 3 of epoch 1")])
def test_an_interrupt_ends_the_proof(error: BaseException, subject: Subject) -> None:
    with pytest.raises(WorkError, match="interrupted in the check 'long'"):
        go_through([Check("long", raising(error))], subject)
