"""A run's lock is held by one process, and freed when that process ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roadmap.errors import RequestError
from roadmap.runs.run_folder import RunLock, RunLockedError

TAKES_IT = (
    "import sys; from roadmap.runs.run_folder import RunLock\n"
    "lock = RunLock(sys.argv[1], 'abc'); lock.acquire(); print('taken', flush=True); sys.stdin.read()"
)


def test_a_run_is_locked_until_its_process_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", TAKES_IT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"
    assert RunLock(tmp_path, "abc").holder()
    assert not RunLock(tmp_path, "another").holder()
    lock = RunLock(tmp_path, "abc")
    with pytest.raises(
        RunLockedError, match=f"another process is training run abc .lock held by process {other.pid} on "
    ):
        lock.acquire()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not RunLock(tmp_path, "abc").holder()
    lock.acquire()
    assert RunLock(tmp_path, "abc").holder()
    lock.release()
    assert not RunLock(tmp_path, "abc").holder()


def test_two_locks_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path, "abc"), RunLock(tmp_path, "abc")
    first.acquire()
    with pytest.raises(RunLockedError):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RequestError, match=r"cannot write .*abc: .*; choose another runs_dir"):
        RunLock(tmp_path / "runs", "abc").acquire()


def test_a_discarded_lock_leaves_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    lock = RunLock(runs, "abc")
    lock.acquire()
    lock.discard()
    assert not runs.exists()
    runs.mkdir()
    (runs / "notes.txt").write_text("kept")
    lock.acquire()
    lock.discard()
    assert [path.name for path in runs.iterdir()] == ["notes.txt"]
