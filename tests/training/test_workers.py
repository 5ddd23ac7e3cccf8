"""`roadmap run workers=N`: the runs of one process, whatever ends the workers."""

import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.config.compose import ConfigSettings, compose
from roadmap.errors import WorkError
from roadmap.runs.run_folder import RunFolder, finished_runs, read_metrics
from roadmap.runtime import device
from roadmap.runtime.device import available_cores
from roadmap.training.many_runs import RunEnd
from roadmap.training.run_command import worker_count
from roadmap.training.workers import RunEnds, train_in_workers
from tests.faults.kill_and_resume import differences
from tests.processes import Command, wait_for

ONE = 'path.steps=["step=gelu"]'
FOUR = ["steps=[layer_norm,separate_downsampling]", "seeds=[0,1]"]


def settings(workers: str) -> ConfigSettings:
    return compose([f"workers={workers}"]).settings


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [worker_count(settings(workers)) for workers in ("1", "3", "auto")] == [0, 3, available_cores()]
    monkeypatch.setattr(device, "choose_device", lambda name: device.torch.device("cuda"))
    assert worker_count(settings("auto")) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["workers=2", ONE], "workers=2 does not go with torchrun, whose 4 processes train each run together"),
        (["workers=auto", ONE], "workers=auto does not go with torchrun"),
        (["workers=0"], "workers must be at least 1 (got 0)"),
        (["steps=[gelu,gulu]", ONE], "unknown step gulu in steps= (choose gelu)"),
        (["steps=gelu"], "steps must be a list or null (got 'gelu')"),
    ],
)
def test_unusable_settings(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0].startswith("workers"):
        monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["run", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_takes_a_number_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "study=leave_one_out", "workers=auto", "--dry-run"]) == 2
    assert "workers=auto belongs to `roadmap run`; a sweep takes a number" in capsys.readouterr().err


def test_dry_run_lists_some_steps_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "steps=[gelu,layer_norm]", "seeds=[3,4]", f"runs_dir={tmp_path / 'runs'}", "--dry-run"]) == 0
    *rows, counts, _ = capsys.readouterr().out.splitlines()[2:]
    names = [f"nano {step} seed {seed}" for seed in (3, 4) for step in ("gelu", "layer_norm")]
    assert [name in row and row.endswith("missing") for name, row in zip(names, rows, strict=True)] == [True] * 4
    assert counts.endswith("4 runs: 4 missing")
    assert not (tmp_path / "runs").exists()


def test_each_end_and_message_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every worker that waited for a run reports its end, and every worker says the batch size."""
    ends = RunEnds(3, {"old": {}})
    for end in (RunEnd("a", "gelu", 2, summary={"top1": 50.0}), RunEnd("b", "norm", 1, error=WorkError("no"))):
        ends.add(end)
        ends.add(end)
        ends.log(logging.makeLogRecord({"name": "roadmap.x", "levelno": logging.INFO, "msg": "batch_size 64"}))
    assert caplog.messages == ["[2/3] gelu: top-1 50.00 %, 2.0 s", "batch_size 64", "[3/3] norm: failed"]
    assert ends.failures["b"][0] == "norm"


class Run(Command):
    """``roadmap run``."""

    def __init__(self, runs_dir: Path, *words: str):
        super().__init__(runs_dir, ["run", *FOUR, *words], mark="spawn_main", stderr=subprocess.PIPE)

    def end(self) -> tuple[int, list[str]]:
        """The exit status, and the lines on stderr."""
        _, err = self.process.communicate(timeout=600)
        return self.process.returncode, err.splitlines()


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts commands; nothing of them outlives the test."""
    started: list[Run] = []

    def starting(*words: str) -> Run:
        started.append(Run(*words))
        return started[-1]

    yield starting
    for command in started:
        command.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs trained in one process of one thread."""
    runs_dir = tmp_path_factory.mktemp("whole")
    status, err = Run(runs_dir, "epochs=4").end()
    assert status == 0, err
    return runs_dir


def assert_finished(command: Run, whole: Path) -> None:
    """Each run equals the one trained in one process, to the bit."""
    folders = sorted(file.parent for file in command.runs_dir.glob("*/summary.json"))
    assert len(folders) == 4
    for folder in folders:
        assert differences(whole / folder.name, folder) == []


@pytest.mark.slow
def test_two_workers_equal_one_process(start: Callable[..., Run], whole: Path, tmp_path: Path) -> None:
    command = start(tmp_path, "epochs=4", "workers=2")
    status, err = command.end()
    assert status == 0, err
    assert_finished(command, whole)
    assert sum("batch_size 64 =" in line for line in err) == 1
    assert [line.partition("]")[0] for line in err if line.startswith("[")] == [f"[{n}/4" for n in range(1, 5)]
    summaries = [json.loads(file.read_text()) for file in tmp_path.glob("*/summary.json")]
    assert {summary["threads"] for summary in summaries} == {1}
    assert (tmp_path / "nano-digits-paper.png").exists()
    spans = sorted((summary["started"], summary["ended"]) for summary in summaries)
    assert spans[1][0] < spans[0][1], "two at a time"


@pytest.mark.slow
def test_a_failed_run_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    requests = [compose([f"runs_dir={tmp_path}", "epochs=1", f"seed={seed}"]) for seed in range(3)]
    requests.insert(1, compose([f"runs_dir={tmp_path}", "epochs=1", "recipe.optimizer.lr=1e30"]))
    unusable = requests[3]
    folder = RunFolder.open(unusable.experiment(), unusable.logged_values, unusable.overrides).path
    (folder / "summary.json").write_text("{")
    summaries, failures = train_in_workers(requests, 2)
    assert sorted(summary["seed"] for summary in summaries) == [0, 1]
    said = {label: str(error) for label, error in failures}
    assert "the loss became" in said["nano resnet50 recipe.optimizer.lr=1e30 seed 0"]
    assert "is not a readable record" in said["nano resnet50 seed 2"]
    assert sum(message.endswith(": failed") for message in caplog.messages) == 2


@pytest.mark.long
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_stop_goes_to_the_workers(
    number: signal.Signals, to_all: bool, start: Callable[..., Run], whole: Path, tmp_path: Path
) -> None:
    """Ctrl-C in a terminal goes to all processes, `kill` to one; both leave checkpoints and no process."""
    command = start(tmp_path, "epochs=4", "workers=2")
    command.wait_until_two_train()
    (os.killpg if to_all else os.kill)(command.process.pid, number)
    status, err = command.end()
    assert status == (1 if number == signal.SIGINT else 75), err
    assert err[-1] == (
        f"roadmap: stopped by {number.name} after a checkpoint of each worker's run; the same command resumes there"
    )
    assert "Traceback" not in "\n".join(err)
    assert "interrupted" in command.statuses()
    assert not command.workers()
    again = start(tmp_path, "epochs=4", "workers=2")
    assert again.end()[0] == 0
    assert_finished(again, whole)


@pytest.mark.slow
def test_the_others_train_the_run_of_a_killed_worker(start: Callable[..., Run], whole: Path, tmp_path: Path) -> None:
    command = start(tmp_path, "epochs=4", "workers=2")
    command.wait_until_two_train()
    os.kill(command.workers()[0], signal.SIGKILL)
    status, err = command.end()
    assert status == 0, err
    assert_finished(command, whole)


@pytest.mark.long
def test_killed_workers_and_commands_leave_nothing_behind(start: Callable[..., Run], tmp_path: Path) -> None:
    command = start(tmp_path, "epochs=500", "workers=2")
    command.wait_until_two_train()
    for worker in command.workers():
        os.kill(worker, signal.SIGKILL)
    status, err = command.end()
    assert status == 1
    said = "4 of 4 runs are missing because their worker processes ended (SIGKILL); the same command resumes them"
    assert any(line.startswith(f"roadmap: {said}") for line in err)
    before = [len(read_metrics(folder / "metrics.jsonl")) for folder in command.folders()]
    again = start(tmp_path, "epochs=500", "workers=2")
    wait_for(  # a worker without its command that has not begun yet trains nothing
        lambda: all(
            len(read_metrics(folder / "metrics.jsonl")) > rows
            for folder, rows in zip(again.folders(), before, strict=True)
        )
    )
    again.process.kill()
    wait_for(lambda: not again.workers())
    assert again.statuses() == ["interrupted"] * 2


@pytest.mark.slow
def test_from_python(tmp_path: Path) -> None:
    words = ["steps=[gelu]", "seeds=[0,1]", "epochs=1", "workers=2", f"runs_dir={tmp_path}"]
    runs = roadmap.run(*words)
    assert sorted(runs["seed"]) == [0, 1]
    assert list(runs["status"]) == ["finished"] * 2
    assert len(finished_runs([compose([f"runs_dir={tmp_path}", "epochs=1", "step=gelu"]).experiment()])) == 1
    assert roadmap.run(*words).equals(runs), "kept"
