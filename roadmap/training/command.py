"""``roadmap train``: one design, one seed, as a Hydra application."""

import logging
import os
import sys

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from roadmap.cli.arguments import overrides_first, say_choices
from roadmap.config.compose import Composed, check_words, composed
from roadmap.config.conf_dir import config_dir
from roadmap.config.hydra_errors import hydra_errors
from roadmap.config.network_cost import network_cost
from roadmap.console import console_level
from roadmap.errors import PrunedError, RequestError, RoadmapError, StoppedError
from roadmap.runtime.launcher_job import scheduled
from roadmap.sweeps.search import Search, check_holdout, checked_objectives, objective, search_of

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    failures: list[RoadmapError] = []
    folders, here, level = _config_dirs(arguments), os.getcwd(), console_level()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: DictConfig) -> float | tuple[float, ...] | None:
        settings = HydraConfig.get()
        multirun = settings.mode == RunMode.MULTIRUN
        try:
            if settings.runtime.choices.get("hydra/sweeper") == "optuna":
                check_holdout(config)
            with scheduled(here, logging.DEBUG if settings.verbose is True else level):
                return train(config, list(settings.overrides.task), dict(settings.runtime.choices), folders)
        except RoadmapError as error:
            if multirun and not _ends_all(error, config, settings):
                _no_value(error, config)
                return None
            # raised through Hydra, a single run's error would gain a line
            failures.append(error)
            if multirun:
                raise KeyboardInterrupt from error  # no launcher and no sweeper goes on after it
            return None

    # without it Hydra prints errors itself and exits with 1 whatever they are
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    words = overrides_first(arguments)
    check_words([word for word in words if "=" in word or word.startswith("~")], folders)
    sys.argv = ["roadmap train", *words]
    try:
        with hydra_errors(arguments):
            job()
    except KeyboardInterrupt:
        if not failures:
            raise
    if failures:
        raise failures[0]
    return 0


def train(
    config: DictConfig, overrides: list[str], choices: dict[str, str], config_dirs: list[str]
) -> float | tuple[float, ...]:
    """Train a composed config and say what was reached; returns its ``objectives``, top-1 in percent unless given.

    Raises PrunedError for a design of a search that is not to be trained, or not to the end.
    """
    request, search = _request(config, overrides, choices, config_dirs)
    names = checked_objectives(request.values["objectives"])
    # here, so that --help and --cfg stay fast
    from roadmap.runtime.distributed import launched
    from roadmap.training.run import execute

    if launched().first:
        say_choices([request])
    judge = None
    if search is not None and search.prune is not None and launched().first:
        from roadmap.sweeps.pruning import median_rule

        judge = median_rule(request, search)
    summary, folder = execute(request, judge=judge)
    if launched().first:
        print(
            f"{summary['variant']} seed {summary['seed']}: top-1 {summary['top1']:.2f} % after {summary['epochs']} "
            f"epochs, {summary['gmacs']:.4g} GMACs, {summary['params_m']:.2f} M parameters; {folder.path}"
        )
    return objective(summary, names)


def _request(
    config: DictConfig, overrides: list[str], choices: dict[str, str], config_dirs: list[str]
) -> tuple[Composed, Search | None]:
    """The checked config, and the search that it is part of."""
    search = _search(config)
    try:
        with hydra_errors(overrides):
            request = composed(config, choices, overrides, config_dirs)
    except RequestError as error:
        if search is None:
            raise
        # a search has composed its space before it starts: what does not fit is this combination
        raise PrunedError(f"not trained: {error}") from error
    if search is not None and (refusal := search.refusal(network_cost(request))):
        raise PrunedError(f"not trained: {refusal}")
    return request, search


def _ends_all(error: RoadmapError, config: DictConfig, settings: HydraConf) -> bool:
    """Whether no other job is worth starting: it is asked to stop, or a search is asked wrongly."""
    # the others have schedulers of their own
    if settings.runtime.choices.get("hydra/launcher") not in ("basic", "joblib"):
        return False
    return isinstance(error, StoppedError) or (isinstance(error, RequestError) and _search(config) is not None)


def _no_value(error: RoadmapError, config: DictConfig) -> None:
    """Let the launcher see that a job failed; a search goes on with a trial that has no value."""
    if _search(config) is None:
        raise error
    logger.warning(f"trial without a result: {error}")


def _search(config: DictConfig) -> Search | None:
    study = config.get("study")
    return search_of({"study": OmegaConf.to_container(study) if study else None})


def _config_dirs(arguments: list[str]) -> list[str]:
    """The folder after Hydra's own --config-dir (-cd), which takes one."""
    for index, word in enumerate(arguments):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            return [value] if value else arguments[index + 1 : index + 2]
    return []
