"""``roadmap train``: train one design with one seed, as a Hydra application."""

import os
import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from roadmap.cli.arguments import overrides_first, say_choices
from roadmap.config import config_dir
from roadmap.config.compose import composed
from roadmap.config.composition import check_words
from roadmap.config.hydra_errors import hydra_errors
from roadmap.console import console_level
from roadmap.errors import RoadmapError, StoppedError
from roadmap.runtime.launcher import launcher_job


def main(arguments: list[str]) -> int:
    failures: list[RoadmapError] = []
    words, here, level = overrides_first(arguments), os.getcwd(), console_level()
    option = get_args_parser().parse_known_args(words)[0].config_dir
    folders = [option] if option else []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: DictConfig) -> None:
        settings = HydraConfig.get()
        multirun = settings.mode == RunMode.MULTIRUN
        try:
            with launcher_job(here, level):
                train(config, list(settings.overrides.task), dict(settings.runtime.choices), folders)
        except RoadmapError as error:
            # other launchers have schedulers, which stop their jobs themselves
            local = settings.runtime.choices.get("hydra/launcher") in ("basic", "joblib")
            if multirun and not (isinstance(error, StoppedError) and local):
                raise  # the launcher handles a failed job
            # raised through Hydra, the error of a single run would get an extra line
            failures.append(error)
            if multirun:
                raise KeyboardInterrupt from error  # ends every launcher and sweeper

    # otherwise Hydra prints errors itself and always exits with 1
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    check_words([word for word in words if "=" in word or word.startswith("~")], folders)
    sys.argv = ["roadmap train", *words]
    try:
        with hydra_errors(arguments, folders):
            job()
    except KeyboardInterrupt:
        if not failures:
            raise
    if failures:
        raise failures[0]
    return 0


def train(config: DictConfig, overrides: list[str], choices: dict[str, str], config_dirs: list[str]) -> None:
    """Train a composed config and print the result."""
    with hydra_errors(overrides):
        request = composed(config, choices, overrides, config_dirs)
    # imported late: --help and --cfg stay fast
    from roadmap.runtime.distributed import world_from_env
    from roadmap.training.run import run_experiment

    is_main = world_from_env().is_main
    if is_main:
        say_choices([request])
    summary, folder = run_experiment(request)
    if is_main:
        print(
            f"{summary['variant']} seed {summary['seed']}: top-1 {summary['top1']:.2f} % after {summary['epochs']} "
            f"epochs, {summary['gmacs']:.4g} GMACs, {summary['params_m']:.2f} M parameters; {folder.path}"
        )
