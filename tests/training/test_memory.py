"""Memory, files and threads of a process that trains many runs do not grow."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults import many_runs

WARM_UP = 8  # runs until allocator and libraries have their memory
MAX_GROWTH = 12.0  # MiB; the images of two runs are 9 MiB, two trainers 21


def held_after(*options: str) -> list[dict[str, float]]:
    """Return what the process holds after each run, from the last warm-up run on."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.many_runs", *options],
        check=True,
        capture_output=True,
        cwd=many_runs.ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [json.loads(line) for line in done.stdout.decode().splitlines()][WARM_UP - 1 :]


@pytest.mark.long
def test_memory_does_not_grow_over_fifty_runs() -> None:
    first, *others = held_after("--runs", "50")
    assert len(others) == 50 - WARM_UP
    assert {(one["files"], one["threads"]) for one in others} == {(first["files"], first["threads"])}
    assert others[-1]["memory"] - first["memory"] < MAX_GROWTH
    # each run's config and summary are kept; a trainer would be 2,000 objects
    assert (others[-1]["objects"] - first["objects"]) / len(others) < 200


@pytest.mark.long
@pytest.mark.parametrize("what", [*many_runs.HELD])
def test_leak_of_each_runs_objects_exceeds_the_bound(what: str) -> None:
    first, *others = held_after("--runs", str(WARM_UP + 6), "--hold", what)
    assert others[-1]["memory"] - first["memory"] > MAX_GROWTH
