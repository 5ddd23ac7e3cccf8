"""``roadmap train``: one design, one seed, as a Hydra application."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from roadmap.commands.arguments import say_choices
from roadmap.confdir import config_dir
from roadmap.config import composed, hydra_errors
from roadmap.errors import RoadmapError
from roadmap.scheduled import scheduled


def main(arguments: list[str]) -> int:
    failures: list[RoadmapError] = []
    folders, here = _config_dirs(arguments), os.getcwd()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        try:
            with scheduled(here):
                return train(config, list(settings.overrides.task), dict(settings.runtime.choices), folders)
        except RoadmapError as error:
            # raised through Hydra, a single run's error would gain a line; a launcher must see a job's failure
            if settings.mode == RunMode.MULTIRUN:
                raise
            failures.append(error)
            return None

    # without it Hydra prints errors itself and exits with 1 whatever they are
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["roadmap train", *arguments]
    with hydra_errors(arguments):
        job()
    if failures:
        raise failures[0]
    return 0


def train(config: DictConfig, overrides: list[str], choices: dict[str, str], config_dirs: list[str]) -> float:
    """Train a composed config and say what was reached; returns top-1 in percent, for sweepers."""
    with hydra_errors(overrides):
        request = composed(config, choices, overrides, config_dirs)
    # here, so that --help and --cfg stay fast
    from roadmap.distributed import launched
    from roadmap.execute import execute

    if launched().first:
        say_choices([request])
    summary, folder = execute(request)
    if launched().first:
        print(
            f"{summary['variant']} seed {summary['seed']}: top-1 {summary['top1']:.2f} % after {summary['epochs']} "
            f"epochs, {summary['gmacs']:.4g} GMACs, {summary['params_m']:.2f} M parameters; {folder.path}"
        )
    return float(summary["top1"])


def _config_dirs(arguments: list[str]) -> list[str]:
    """The folder after Hydra's own --config-dir (-cd), which takes one."""
    for index, word in enumerate(arguments):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            return [value] if value else arguments[index + 1 : index + 2]
    return []
