"""A bar in a terminal, messages in a log file."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from roadmap.runtime import progress

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
