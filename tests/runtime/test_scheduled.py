"""Requests to stop, and what becomes of them in a job of submitit's; the real Slurm is in tests/slurm."""

import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import pytest

from roadmap.errors import StoppedError, WorkError
from roadmap.runtime.launcher_job import scheduled
from roadmap.runtime.stopping import SIGNALS, StopRequest


@pytest.mark.parametrize(
    ("sent", "noted"),
    [
        ([SIGTERM], SIGTERM),
        ([SIGINT, SIGTERM], SIGTERM),
        ([SIGUSR2, SIGTERM], SIGUSR2),  # the warning, and the end of the time before the update is done
        ([SIGTERM, SIGUSR2], SIGUSR2),  # as submitit's preemption
        ([SIGUSR1, SIGINT], SIGUSR1),
    ],
)
def test_a_warning_stays_noted(sent: list[signal.Signals], noted: signal.Signals) -> None:
    with StopRequest() as stop:
        for number in sent:
            os.kill(os.getpid(), number)
        assert stop.signal == noted


def test_a_request_within_itself_gives_the_handlers_back_once() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        with stop:
            pass
        os.kill(os.getpid(), SIGTERM)
        assert stop.signal == SIGTERM
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_worker_whose_program_is_gone_is_asked_to_stop() -> None:
    """A child of Python's multiprocessing says what it sees before and after its parent kills itself."""
    code = """
import multiprocessing, os, sys, time
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
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["None", "SIGHUP"]


def test_a_stop_goes_from_a_worker_to_the_process_that_started_it() -> None:
    error = pickle.loads(pickle.dumps(StoppedError(SIGUSR2, "update 3 of epoch 2")))
    assert (error.by, error.exit_status) == (SIGUSR2, 75)
    assert str(error) == "stopped by SIGUSR2 after update 3 of epoch 2; the same command resumes there"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What Slurm and submitit say to a task of theirs: the second of three, alone on the second of three machines."""
    said = {"JOB_ID": 7, "NTASKS": 3, "JOB_NUM_NODES": 3, "NODEID": 1, "PROCID": 1, "LOCALID": 0}
    for name, value in said.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[07-09]")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "of another job")
        monkeypatch.delenv(name)  # whatever is set from here on goes at the end of the test
    return monkeypatch


@pytest.fixture
def handled() -> list[int]:
    """The signals that submitit's handler would have been called with."""
    seen: list[int] = []
    before = signal.signal(SIGUSR2, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(SIGUSR2, before)


def test_tasks_find_what_torchrun_would_say(job: pytest.MonkeyPatch) -> None:
    job.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with scheduled(os.curdir):
        found = [os.environ[name] for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    assert found == ["gpu07", "1", "3", "0", "1"]
    assert 1024 < int(os.environ["MASTER_PORT"]) < 65536
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_a_job_of_one_task_is_one_process(job: pytest.MonkeyPatch) -> None:
    for name, value in (("NTASKS", 1), ("PROCID", 0)):
        job.setenv(f"SLURM_{name}", str(value))
    with scheduled(os.curdir):
        assert "WORLD_SIZE" not in os.environ


def test_the_first_task_hands_the_warning_on(
    job: pytest.MonkeyPatch, handled: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    job.setenv("SLURM_PROCID", "0")
    with pytest.raises(StoppedError), scheduled(os.curdir, logging.INFO):
        raise StoppedError(SIGUSR2, "update 3 of epoch 2")
    assert handled == [SIGUSR2]
    assert capsys.readouterr().err.startswith("roadmap: stopped by SIGUSR2 after update 3 of epoch 2;")


def test_another_task_ends_without_a_result(
    job: pytest.MonkeyPatch, handled: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, scheduled(os.curdir, logging.INFO):
        raise StoppedError(SIGUSR2, "update 3 of epoch 2")
    assert ended.value.code == 0
    assert handled == [SIGUSR2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("by", [SIGTERM, SIGUSR1])
def test_other_signals_end_the_job(by: signal.Signals, job: pytest.MonkeyPatch, handled: list[int]) -> None:
    with pytest.raises(StoppedError), scheduled(os.curdir):
        raise StoppedError(by, "update 3 of epoch 2")
    assert handled == []


def test_outside_of_a_job_nothing_is_handed_on(handled: list[int]) -> None:
    with pytest.raises(StoppedError), scheduled(os.curdir):
        raise StoppedError(SIGUSR2, "update 3 of epoch 2")
    assert handled == []


def test_a_job_works_in_the_folder_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with scheduled(str(tmp_path / "here")):
        assert Path.cwd() == tmp_path / "here"
    with pytest.raises(WorkError, match=r"cannot work in .*/there: No such file or directory; start from"):
        scheduled(str(tmp_path / "there")).__enter__()
