"""A Slurm cluster of this one machine, for as long as the tests run: its own daemons, ports and key."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import free_port

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
TaskPlugin=task/none
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
