"""The files of conf/engine against the launchers that read them, without their hardware."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import submitit
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, OmegaConf

from roadmap.config import config_dir
from roadmap.errors import RequestError
from roadmap.runtime.device import share_gpus
from roadmap.training.run_command import main as run

ENGINES = sorted(file.stem for file in (config_dir() / "engine").glob("*.yaml"))
LAUNCHERS = {
    "laptop": "JoblibLauncher",
    "eight_gpus": "JoblibLauncher",
    "slurm_1x8": "SlurmLauncher",
    "slurm_4x8": "SlurmLauncher",
    "slurm_array": "SlurmLauncher",
    "ray_local": "RayLauncher",
    "ray_cluster": "RayLauncher",
}


def composed(engine: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", [f"engine={engine}", *overrides], return_hydra_config=True)


@pytest.fixture
def no_hydra_left() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


def launcher(engine: str, *overrides: str) -> Any:
    """Return the launcher that Hydra builds from an engine; an unknown setting is an error."""
    config = composed(engine, *overrides)
    HydraConfig.instance().set_config(config)
    context = HydraContext(callbacks=None, config_loader=None)  # type: ignore[arg-type]
    return Plugins.instance().instantiate_launcher(context, lambda config: None, config)


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_builds_its_launcher(engine: str, no_hydra_left: None) -> None:
    if engine.startswith("ray"):
        pytest.importorskip("ray")
    assert type(launcher(engine)).__name__ == LAUNCHERS[engine]


@pytest.mark.parametrize("engine", ENGINES)
def test_command_in_an_engines_comment_composes(engine: str) -> None:
    lines = (config_dir() / "engine" / f"{engine}.yaml").read_text().splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    words = comment.partition("roadmap sweep ")[2].split()
    assert f"engine={engine}" in words
    if not engine.startswith("ray"):
        composed(*[word.removeprefix("engine=") for word in words if word.startswith("engine=")], *words)


def batch_script(engine: str, folder: Path, *overrides: str) -> list[str]:
    """Return the batch script of submitit for the settings that Hydra's plugin gives it."""
    params = launcher(engine, *overrides).params
    shared = set(OmegaConf.structured(BaseQueueConf).keys())
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=params["max_num_timeout"])
    settings = {key: value for key, value in params.items() if key not in ("submitit_folder", "max_num_timeout")}
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in settings.items()})
    return executor._executor._make_submission_file_text("python", "id").splitlines()


@pytest.mark.parametrize(
    ("engine", "asked"),
    [
        ("slurm_1x8", {"nodes=1", "ntasks-per-node=8", "gpus-per-node=8"}),
        ("slurm_4x8", {"nodes=4", "ntasks-per-node=8", "gpus-per-node=8"}),
        ("slurm_array", {"nodes=1", "ntasks-per-node=1", "gpus-per-node=1"}),
    ],
)
def test_slurm_batch_script(
    engine: str, asked: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hydra_left: None
) -> None:
    srun = tmp_path / "srun"  # submitit checks that it exists
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    script = batch_script(engine, tmp_path, "hydra.launcher.partition=gpu")
    options = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    assert asked | {"requeue", "partition=gpu", "signal=USR2@300", "time=1440", "job-name=roadmap"} <= options
    assert any("export SRUN_CPUS_PER_TASK=" in line for line in script[: script.index("# command")])
    assert ("export SLURM_KILL_BAD_EXIT=1" in script) == (engine != "slurm_array")


@pytest.mark.parametrize(
    ("name", "worker", "count", "taken"),
    [("auto", 3, 8, [3]), ("auto", 11, 8, [3]), ("cuda", 1, 2, [1]), ("cuda:1", 0, 8, []), ("auto", 5, 1, [])],
)
def test_workers_share_gpus_round_robin(
    name: str, worker: int, count: int, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    share_gpus(name, worker)
    assert chosen == taken


@pytest.mark.parametrize(
    ("asked", "extra"),
    [("hydra/launcher=joblib", "joblib"), ("engine=slurm_4x8", "slurm")],
)
def test_launcher_that_is_not_installed_is_named(asked: str, extra: str) -> None:
    code = (
        "import sys, hydra_plugins; hydra_plugins.__path__ = []; from roadmap.__main__ import main; "
        f"sys.exit(main(['train', '-m', '{asked}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f" is a plugin that is not installed; pip install 'convnext-roadmap[{extra}]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["engine=laptop", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
def test_run_rejects_settings_of_launchers(word: str) -> None:
    with pytest.raises(RequestError, match=rf"{word.partition('=')[0]}= belongs to `roadmap sweep`"):
        run([word])
