"""-v and -q: what a command writes to stderr, in its own process and in its launcher's workers."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from roadmap.__main__ import main
from roadmap.console import console
from roadmap.training import run

TRAIN = ["train", "epochs=1", "device=cpu", "design.width=8"]


@pytest.fixture(autouse=True)
def batch_size_not_logged_yet() -> None:
    """A process logs its batch size once."""
    run._log_once.cache_clear()


def stderr(capfd: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """Run a command and return what it writes to stderr."""
    assert main([*words]) == status
    return capfd.readouterr().err


def test_v_and_q_set_the_log_level(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def train(name: str, *words: str) -> str:
        return stderr(capfd, *TRAIN, f"runs_dir={tmp_path / name}", *words)

    assert train("plain").startswith("batch_size 64 = 1 processes")
    verbose = train("verbose", "-v")
    assert f"training on cpu, run folder {tmp_path / 'verbose'}/nano" in verbose
    assert "epoch 1 of 1, top-1" in verbose
    assert train("quiet", "-q") == ""


@pytest.mark.parametrize("words", [["compare"], ["train", "norm=gn"], ["nonsense"], []])
def test_errors_are_always_shown_with_a_traceback_for_v(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    plain = stderr(capfd, *words, status=2)
    assert plain.startswith("roadmap: ")
    assert plain.count("\n") == 1
    assert stderr(capfd, *words, "--quiet", status=2) == stderr(capfd, "-q", *words, status=2) == plain
    verbose = stderr(capfd, "--verbose", *words, status=2)
    assert verbose.startswith(plain)
    assert "Traceback" in verbose


@pytest.mark.parametrize(("flag", "lines"), [("-v", 2), pytest.param("-q", 0, marks=pytest.mark.slow)])
def test_workers_of_a_launcher_inherit_the_level(flag: str, lines: int, tmp_path: Path) -> None:
    words = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", f"runs_dir={tmp_path}"]
    command = [sys.executable, "-m", "roadmap", flag, *TRAIN, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr.count("training on cpu, run folder") == lines
    assert ended.stderr.count("batch_size 64 =") == lines


def test_ranks_after_the_first_only_warn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    logger = logging.getLogger("roadmap.data")
    with console(logging.DEBUG):
        logger.info("read the images")
        logger.warning("cannot read image\x1b 3")
    assert capsys.readouterr().err == "roadmap, process 1: cannot read image\\x1b 3\n"
