"""Sweeps on real launchers: each run once, whatever ends the workers, and nothing that goes on training unseen."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.kill_and_resume import differences
from tests.processes import TIMEOUT, Command, wait_for

pytestmark = pytest.mark.slow
STUDY = ["study=leave_one_out", "study.changes=[gelu]", "seeds=[0,1]"]  # four runs
RAY = ["engine=ray_local", "workers=2", "hydra.launcher.ray.remote={num_gpus: 0, num_cpus: 0.5}"]


class Sweep(Command):
    """``roadmap sweep``."""

    def __init__(self, runs_dir: Path, *overrides: str):
        super().__init__(runs_dir, ["sweep", *STUDY, *overrides], mark="LokyProcess", stderr=subprocess.STDOUT)

    def end(self) -> str:
        """What it said."""
        said, _ = self.process.communicate(timeout=TIMEOUT)
        return said


@pytest.fixture
def start() -> Iterator[Callable[..., Sweep]]:
    """Starts sweeps; nothing of them outlives the test."""
    started: list[Sweep] = []

    def starting(runs_dir: Path, *overrides: str) -> Sweep:
        started.append(Sweep(runs_dir, *overrides))
        return started[-1]

    yield starting
    for sweep in started:
        sweep.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep in one process, undisturbed."""
    runs_dir = tmp_path_factory.mktemp("whole")
    sweep = Sweep(runs_dir, "epochs=20")
    said = sweep.end()
    assert sweep.process.returncode == 0, said
    return runs_dir


def assert_finished(sweep: Sweep, whole: Path) -> None:
    """Each run once, and equal to the undisturbed one to the bit."""
    assert sweep.statuses() == ["finished"] * 4
    for folder in sweep.folders():
        assert differences(whole / folder.name, folder) == []


def overlap(sweep: Sweep) -> bool:
    """Whether some two runs were under way at the same time."""
    spans = [json.loads((folder / "summary.json").read_text()) for folder in sweep.folders()]
    spans.sort(key=lambda summary: summary["started"])
    return any(one["ended"] > other["started"] for one, other in pairwise(spans))


def test_two_workers_of_joblib(start: Callable[..., Sweep], whole: Path, tmp_path: Path) -> None:
    sweep = start(tmp_path, "epochs=20", "engine=laptop")
    said = sweep.end()
    assert sweep.process.returncode == 0, said
    assert "4 of 4 runs are finished" in said
    assert_finished(sweep, whole)
    assert overlap(sweep)


@pytest.mark.long
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_stop_goes_to_the_workers(
    number: signal.Signals, to_all: bool, start: Callable[..., Sweep], whole: Path, tmp_path: Path
) -> None:
    """Ctrl-C in a terminal goes to all of its processes, `kill` to one; both leave checkpoints and no process."""
    sweep = start(tmp_path, "epochs=20", "engine=laptop")
    sweep.wait_until_two_train()
    (os.killpg if to_all else os.kill)(sweep.process.pid, number)
    said = sweep.end()
    assert sweep.process.returncode == (1 if number == signal.SIGINT else 75), said
    assert said.splitlines()[-1].startswith(f"roadmap: stopped by {number.name} after a checkpoint")
    assert "interrupted" in sweep.statuses()
    assert set(sweep.statuses()) <= {"interrupted", "finished"}
    wait_for(lambda: not sweep.workers())
    again = start(tmp_path, "epochs=20", "engine=laptop")
    again.end()
    assert_finished(again, whole)


def test_workers_of_a_command_that_is_killed_stop_training(start: Callable[..., Sweep], tmp_path: Path) -> None:
    sweep = start(tmp_path, "epochs=500", "engine=laptop")
    sweep.wait_until_two_train()
    sweep.process.kill()
    wait_for(lambda: not sweep.workers())
    assert sweep.statuses() == ["interrupted"] * 2


@pytest.mark.long
def test_a_worker_that_is_killed_is_one_sentence(start: Callable[..., Sweep], whole: Path, tmp_path: Path) -> None:
    sweep = start(tmp_path, "epochs=20", "engine=laptop")
    sweep.wait_until_two_train()
    os.kill(sweep.workers()[0], signal.SIGKILL)
    said = sweep.end()
    assert sweep.process.returncode == 1
    assert "roadmap: the launcher failed: TerminatedWorkerError" in said
    assert "Traceback" not in said
    wait_for(lambda: not sweep.workers())
    again = start(tmp_path, "epochs=20", "engine=laptop")
    again.end()
    assert_finished(again, whole)


def test_two_workers_of_a_local_ray(start: Callable[..., Sweep], whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    sweep = start(tmp_path, "epochs=20", *RAY)
    said = sweep.end()
    assert sweep.process.returncode == 0, said
    assert_finished(sweep, whole)
    assert overlap(sweep)
