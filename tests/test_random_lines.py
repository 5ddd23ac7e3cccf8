"""Random command lines end with a short error or none, and leave no half-written files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("lines", "training_seconds"), [(12, 240), pytest.param(200, 12, marks=pytest.mark.long)])
def test_random_command_lines_end_well(lines: int, training_seconds: int) -> None:
    """In a process of its own, which is forked for each line; 12 lines have no training that has to be stopped."""
    command = [sys.executable, "tests/faults/fuzz_commands.py", "--seed", "1", "--jobs", "1"]
    command += ["--lines", str(lines), "--training-seconds", str(training_seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{lines} lines, 0 with faults" in done.stdout
