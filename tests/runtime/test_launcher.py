"""Signals, also in a submitit job (tests/slurm has a real Slurm); and progress bars."""

import logging
import os
import pickle
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import pytest

from roadmap.errors import StoppedError, WorkError
from roadmap.runtime import progress
from roadmap.runtime.launcher import launcher_job
from roadmap.runtime.stopping import SIGNALS, StopRequest


@pytest.mark.parametrize(
    ("sent", "noted"),
    [
        ([SIGTERM], SIGTERM),
        ([SIGINT, SIGTERM], SIGTERM),
        ([SIGUSR2, SIGTERM], SIGUSR2),  # the warning, then the end of the time limit
        ([SIGTERM, SIGUSR2], SIGUSR2),  # submitit's preemption
        ([SIGUSR1, SIGINT], SIGUSR1),
    ],
)
def test_warning_signal_is_kept(sent: list[signal.Signals], noted: signal.Signals) -> None:
    with StopRequest() as stop:
        for number in sent:
            os.kill(os.getpid(), number)
        assert stop.signal == noted


def test_nested_stop_request_restores_handlers_once() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        with stop:
            pass
        os.kill(os.getpid(), SIGTERM)
        assert stop.signal == SIGTERM
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_worker_whose_parent_has_died_is_asked_to_stop() -> None:
    code = """
import multiprocessing, os, signal, time
from roadmap.runtime.stopping import StopRequest
def work(parent):
    stop = StopRequest()
    print(stop.signal, flush=True)
    os.kill(parent, 9)
    while os.getppid() == parent:
        time.sleep(0.01)
    print(stop.signal.name, flush=True)
if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
    signal.pause()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["None", "SIGHUP"]


def test_stopped_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(StoppedError(SIGUSR2, "update 3 of epoch 2")))
    assert (error.by, error.exit_status) == (SIGUSR2, 75)
    assert str(error) == "stopped by SIGUSR2 after update 3 of epoch 2; the same command resumes there"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a submitit task: the second of three, each on a machine of its own."""
    said = {"JOB_ID": 7, "NTASKS": 3, "JOB_NUM_NODES": 3, "NODEID": 1, "PROCID": 1, "LOCALID": 0}
    for name, value in said.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[07-09]")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "of another job")
        monkeypatch.delenv(name)  # removed again at the end of the test
    return monkeypatch


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """The signals that reached the handler installed before, which stands for submitit's."""
    seen: list[int] = []
    before = signal.signal(SIGUSR2, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(SIGUSR2, before)


def test_submitit_tasks_get_torchruns_environment(job: pytest.MonkeyPatch) -> None:
    job.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with launcher_job(os.curdir):
        found = [os.environ[name] for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    assert found == ["gpu07", "1", "3", "0", "1"]
    assert 1024 < int(os.environ["MASTER_PORT"]) < 65536
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_first_task_calls_submitits_handler(
    job: pytest.MonkeyPatch, handled: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    job.setenv("SLURM_PROCID", "0")
    with pytest.raises(StoppedError), launcher_job(os.curdir, logging.INFO):
        raise StoppedError(SIGUSR2, "update 3 of epoch 2")
    assert handled == [SIGUSR2]
    assert capsys.readouterr().err.startswith("roadmap: stopped by SIGUSR2 after update 3 of epoch 2;")


def test_other_task_exits_without_a_result(
    job: pytest.MonkeyPatch, handled: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, launcher_job(os.curdir, logging.INFO):
        raise StoppedError(SIGUSR2, "update 3 of epoch 2")
    assert ended.value.code == 0
    assert handled == [SIGUSR2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("by", [SIGTERM, SIGUSR1])
def test_other_signals_are_not_passed_to_submitit(
    by: signal.Signals, job: pytest.MonkeyPatch, handled: list[int]
) -> None:
    with pytest.raises(StoppedError), launcher_job(os.curdir):
        raise StoppedError(by, "update 3 of epoch 2")
    assert handled == []


def test_job_runs_in_the_folder_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with launcher_job(str(tmp_path / "here")):
        assert Path.cwd() == tmp_path / "here"
    with pytest.raises(WorkError, match=r"cannot use the folder .*/there: No such file or directory; start from"):
        launcher_job(str(tmp_path / "there")).__enter__()


COMMAND = [sys.executable, "-m", "roadmap", "train", "epochs=2"]


def test_bar_in_a_terminal_disappears_at_the_end(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    process = subprocess.Popen([*COMMAND, f"runs_dir={tmp_path}"], stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        # a pseudo-terminal signals its end with an error
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0
    assert b"nano resnet50 seed 0" in shown
    assert b"/2 epochs" in shown
    # one line: the batch size
    assert shown.count(b"\n") == 1


def test_log_file_gets_occasional_messages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "roadmap")
    row = {"epoch": 1, "top1": 50.0, "train_loss": 1.0, "images_per_second": 100.0, "data_wait": 0.25}
    with progress.ProgressBar("gelu", epochs=3) as shown:
        shown.start(0, 0)
        shown.show(row)
        assert not caplog.messages
        monkeypatch.setattr(progress, "QUIET_SECONDS", -1)
        shown.show(row | {"epoch": 2})
    assert caplog.messages == [
        "gelu: epoch 2 of 3, top-1 50.00, loss 1.000, 100 images/s, 25% of the time waiting for data"
    ]
