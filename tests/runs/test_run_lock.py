"""Claims: one process has a run, and loses it with its life."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roadmap.errors import RequestError
from roadmap.runs.run_lock import RunLock, RunLockedError, held

TAKES_IT = (
    "import sys; from roadmap.runs.run_lock import RunLock\n"
    "claim = RunLock(sys.argv[1], 'abc'); claim.take(); print('taken', flush=True); sys.stdin.read()"
)


def test_a_claim_is_one_processs_until_it_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", TAKES_IT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"
    assert held(tmp_path, "abc")
    assert not held(tmp_path, "another")
    claim = RunLock(tmp_path, "abc")
    with pytest.raises(RunLockedError, match=f"run abc is being trained by process {other.pid} on "):
        claim.take()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not held(tmp_path, "abc")
    claim.take()
    assert held(tmp_path, "abc")
    claim.free()
    assert not held(tmp_path, "abc")


def test_two_claims_of_one_process_are_two(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path, "abc"), RunLock(tmp_path, "abc")
    first.take()
    with pytest.raises(RunLockedError):
        second.take()
    first.free()
    second.take()
    second.free()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RequestError, match=r"cannot write .*abc: .*; choose another runs_dir"):
        RunLock(tmp_path / "runs", "abc").take()


def test_a_claim_for_a_wrong_request_leaves_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    claim = RunLock(runs, "abc")
    claim.take()
    claim.withdraw()
    assert not runs.exists()
    runs.mkdir()
    (runs / "notes.txt").write_text("kept")
    claim.take()
    claim.withdraw()
    assert [path.name for path in runs.iterdir()] == ["notes.txt"]
    claim.take()
    assert held(runs, "abc")
    claim.free()
