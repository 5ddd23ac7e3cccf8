"""What one process that trains many runs holds: no more after fifty than after a few."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults import many_runs

WARM_UP = 8  # runs, in which allocator and libraries take what they keep
# Two runs' images are 9 MiB, two trainers 21: who holds each run's passes this within three.
MOST = 12.0


def held_after(*options: str) -> list[dict[str, float]]:
    """What the process holds after each run from the last of the warm-up on."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.many_runs", *options],
        check=True,
        capture_output=True,
        cwd=many_runs.ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [json.loads(line) for line in done.stdout.decode().splitlines()][WARM_UP - 1 :]


@pytest.mark.long
def test_fifty_runs_hold_no_more_than_a_few() -> None:
    first, *others = held_after("--runs", "50")
    assert len(others) == 50 - WARM_UP
    assert {(one["files"], one["threads"]) for one in others} == {(first["files"], first["threads"])}
    assert others[-1]["memory"] - first["memory"] < MOST
    # a run's request and summary stay; its trainer alone is 2,000 objects
    assert (others[-1]["objects"] - first["objects"]) / len(others) < 200


@pytest.mark.long
@pytest.mark.parametrize("what", [*many_runs.HELD])
def test_that_bound_is_passed_by_who_holds_each_runs(what: str) -> None:
    first, *others = held_after("--runs", str(WARM_UP + 6), "--hold", what)
    assert others[-1]["memory"] - first["memory"] > MOST
