"""A sweep's job on a real Slurm is stopped, put back into the queue, and ends as if it had not been."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from roadmap.runs.run_folder import RunFolder
from tests.faults.kill_and_resume import differences
from tests.processes import free_port, train_in

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
STUDY = ["study=leave_one_out", "study.changes=[gelu]", "seeds=[0]", "batch_size=32", "recipe.batch_norm_images=16"]
# one job with as many tasks as the test says, on this machine
ONE_JOB = ["engine=slurm_array", "workers=1", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1"]
MINUTES = 12
Start = Callable[..., subprocess.Popen[str]]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
# a job that was put back into the queue starts again only when its credential has expired: 2 minutes by default
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=15
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _start(folder: Path) -> None:
    """munged, slurmctld and slurmd, which put themselves into the background."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            controller_port=free_port(),
            daemon_port=free_port(),
            cpus=os.cpu_count(),
        )
    )
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    options = [f"--{option}={folder / 'munge' / name}" for option, name in files.items()]
    for command in (["munged", "--force", *options], ["slurmctld"], ["slurmd"]):
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def _up() -> bool:
    state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    return state.stdout.strip() == "idle"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SLURM_CONF of a cluster with one idle node; skips where Slurm is not installed."""
    if os.geteuid() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip("takes root and the programs of Debian's slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            _start(folder)
            for _ in range(60):
                if _up():
                    break
                time.sleep(0.5)
            else:
                pytest.fail(f"the node did not come up: {(folder / 'slurmd.log').read_text()[-1000:]}")
            yield
        finally:
            subprocess.run(["scancel", "--user=root"], check=False, timeout=60)
            for _ in range(60):
                if _up():
                    break
                time.sleep(0.5)
            for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
                if (folder / name).exists():
                    os.kill(int((folder / name).read_text()), 15)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the sweep's command; those still at it are ended with the test."""
    with ExitStack() as started:

        def starting(runs_dir: Path, *overrides: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "roadmap", "sweep", *STUDY, f"runs_dir={runs_dir}", *overrides]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            started.callback(process.kill)
            return process

        yield starting


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a task of two cores takes two")
def test_a_task_sees_all_of_its_cores(
    slurm: None, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's threads, as many as it sees cores, where tasks are bound to theirs."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("SLURM_CPU_BIND", "cores")
    launcher = start(tmp_path, "epochs=1", *ONE_JOB, "hydra.launcher.cpus_per_task=2")
    end_of(launcher, tmp_path)
    for run in planned(tmp_path):
        assert (RunFolder(folder(tmp_path, run["run_id"])).read_summary() or {})["threads"] == 2


def jobs() -> str:
    """The number of the job that waits or runs; nothing where there is none."""
    listed = subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True)
    return listed.stdout.strip()


def logs(runs_dir: Path) -> str:
    """What the tasks of the sweep's job have said, in all of its lives."""
    return "".join(file.read_text() for file in sorted(runs_dir.glob(".multirun/.submitit/*/*_log.out")))


def wait_for(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60 * MINUTES
    while not done():
        assert time.monotonic() < end, f"no {what} in {MINUTES} minutes"
        time.sleep(0.5)


def end_of(launcher: subprocess.Popen[str], runs_dir: Path) -> str:
    """The job's log once the command that waits for it has ended."""
    wait_for(lambda: launcher.poll() is not None or bool(jobs()), "job")
    wait_for(lambda: launcher.poll() is not None or not jobs(), "end of the job")
    # it looks for results every few seconds
    said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, said + logs(runs_dir)
    return logs(runs_dir)


def planned(runs_dir: Path) -> list[dict]:
    (plan,) = runs_dir.glob("sweeps/*/plan.jsonl")
    return [json.loads(line) for line in plan.read_text().splitlines()]


def folder(runs_dir: Path, run_id: str) -> Path:
    (found,) = runs_dir.glob(f"*-{run_id}")
    return found


def assert_same(runs: list[dict], one: Path, other: Path) -> None:
    """Each run, to the bit: metrics without times, weights, optimizer."""
    for run in runs:
        first, second = folder(one, run["run_id"]), folder(other, run["run_id"])
        assert (RunFolder(second).read_summary() or {})["status"] == "finished"
        assert differences(first, second) == []


def test_a_job_whose_time_is_up(slurm: None, start: Start, tmp_path: Path) -> None:
    """A minute is Slurm's shortest limit; its warning comes 10 to 40 seconds before. The runs take longer than that."""
    limit = [f"hydra.launcher.{setting}" for setting in ("timeout_min=1", "signal_delay_s=10", "max_num_timeout=50")]
    launcher = start(tmp_path / "slurm", "epochs=150", *ONE_JOB, *limit)
    whole = start(tmp_path / "whole", "epochs=150")
    wait_for(lambda: launcher.poll() is not None or "resuming from epoch" in logs(tmp_path / "slurm"), "second start")
    # once is enough
    subprocess.run(["scontrol", "update", f"JobId={jobs()}", "TimeLimit=30"], check=True)
    assert "stopped by SIGUSR2 after update" in end_of(launcher, tmp_path / "slurm")
    assert whole.wait(60 * MINUTES) == 0
    assert_same(planned(tmp_path / "whole"), tmp_path / "whole", tmp_path / "slurm")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two tasks take two cores")
def test_a_job_of_two_tasks_on_one_run(slurm: None, start: Start, tmp_path: Path) -> None:
    """Warned by hand as soon as it has trained an epoch, as `scancel --signal=USR2` moves a job out of the way."""
    runs_dir = tmp_path / "slurm"
    launcher = start(
        runs_dir, "epochs=10", *ONE_JOB, "hydra.launcher.tasks_per_node=2", "hydra.launcher.max_num_timeout=1"
    )
    wait_for(lambda: any(runs_dir.glob("*/metrics.jsonl")), "first epoch")
    subprocess.run(["scancel", "--signal=USR2", "--name=roadmap"], check=True)
    log = end_of(launcher, runs_dir)
    assert "batch_size 32 = 2 processes" in log
    assert "stopped by SIGUSR2 after update" in log
    assert "resuming from epoch" in log
    for run in planned(runs_dir):
        assert train_in(2, [*run["overrides"], f"runs_dir={tmp_path / 'whole'}"]) == [0, 0]
    assert_same(planned(runs_dir), tmp_path / "whole", runs_dir)
