"""Random command lines end with a short error or none, and leave no half-written files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("lines", [12, pytest.param(200, marks=pytest.mark.long)])
def test_random_command_lines_end_well(lines: int) -> None:
    """In a process of its own, which is forked for each line."""
    command = [sys.executable, "tests/faults/fuzz_commands.py", "--lines", str(lines), "--seed", "1", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{lines} lines, 0 with faults" in done.stdout
