"""A search's trials in Optuna's storage: how they are sampled, what is noted with each, how a killed one goes on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from roadmap.config.compose import compose
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError, first_line
from roadmap.networks.flops import composed_flops
from roadmap.seeds import derived_seed
from roadmap.sweeps.search import search_of
from roadmap.sweeps.search_space import SearchSpace

TRIES, RANDOM_TRIES = 10, 1000  # of a sampler for one trial, and at random after those
RUN_ID, REFUSED = "run_id", "refused"  # user attributes of a trial


class Proposals(BaseSampler):
    """What one of Optuna's samplers proposes, all of a trial at once, without designs that will not be trained.

    A design that is refused or that the search has proposed before is sampled anew, at last at random: such a trial
    would have no value, or one that is known, and the samplers learn nothing from either. Each trial's random numbers
    come from the search's seed and its number, so that a search goes on as if it had not been killed.
    """

    def __init__(self, kind: Callable[..., BaseSampler], seed: int, settings: dict[str, Any]):
        self.kind, self.seed, self.settings = kind, seed, settings
        self.space: SearchSpace | None = None
        self.distributions: dict[str, BaseDistribution] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self.space is None:
            asked = study.user_attrs
            self.space = SearchSpace.of(asked["overrides"], asked["config_dirs"])
            words = [f"{key}={sweep}" for key, sweep in self.space.sweeps.items()]
            self.distributions, _ = create_params_from_overrides(words)
        return self.distributions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        assert self.space is not None
        seed = derived_seed(self.seed, "trial", trial.number) % 2**32
        sampler, at_random = self.kind(seed=seed, **self.settings), RandomSampler(seed)
        before = [other.params for other in study.get_trials(deepcopy=False)[: trial.number]]
        params: dict[str, Any] = {}
        for attempt in range(TRIES + RANDOM_TRIES):
            chooser = sampler if attempt < TRIES else at_random
            params = self._sampled(chooser, study, trial)
            if params not in before and self.space.refusal(params) is None:
                break
        return params

    def _sampled(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        joint = sampler.infer_relative_search_space(study, trial)
        params = sampler.sample_relative(study, trial, joint)
        # NSGA-II has noted the parents with it
        trial = study.get_trials(deepcopy=False)[trial.number]
        for name, distribution in self.distributions.items():
            if name not in params:
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        return params

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        raise AssertionError("all of a trial's parameters are sampled together")


def nsgaii(seed: int, **settings: Any) -> Proposals:
    """NSGA-II (doi:10.1109/4235.996017)."""
    return Proposals(NSGAIISampler, seed, settings)


def tpe(seed: int, **settings: Any) -> Proposals:
    """Tree-structured Parzen estimator, of several objectives too (doi:10.1145/3377930.3389817)."""
    return Proposals(TPESampler, seed, settings)


def note(config: DictConfig, trial: Trial) -> None:
    """Say what a trial is before it starts, and note with it which run that is or why it will be none.

    It is called as the sweeper's custom_search_space.
    """
    print(f"trial {trial.number}", end=": ", flush=True)
    fixed = [word for word in config.hydra.overrides.task if key_of(word) not in trial.params]
    folders = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    try:
        composed = compose([*fixed, *(f"{name}={value}" for name, value in trial.params.items())], folders)
    except RequestError as error:
        trial.set_user_attr(REFUSED, str(error))
        print(" ".join(f"{name}={value}" for name, value in trial.params.items()), flush=True)
        return
    print(composed.variant, flush=True)
    search = search_of(composed.values)
    if search is not None and (refusal := search.refusal(composed_flops(composed))):
        trial.set_user_attr(REFUSED, refusal)
    else:
        trial.set_user_attr(RUN_ID, composed.experiment().run_id)


@dataclass(frozen=True)
class Noted:
    """A trial that has been told: the run it was, or why it was none."""

    number: int
    run_id: str | None
    refused: str | None


@contextmanager
def kept_in(file: Path) -> Iterator[None]:
    """While entered, trials are kept in a file. Raises RequestError where it is damaged."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, JSONDecodeError) as error:
        reason = first_line(getattr(error, "orig", None) or error)
        raise RequestError(
            f"{file} holds no trials that can be read ({reason}); once it is moved away the same command begins anew, "
            "and keeps the runs that are finished"
        ) from error


def open_study(
    name: str, storage: str, directions: list[str], overrides: Sequence[str], config_dirs: Sequence[str]
) -> Study:
    """The study in a storage, made if it is not there; trials that were killed will be asked for again.

    It keeps the overrides and folders that say what the search is.

    A trial keeps its number and what was sampled for it, so a search that was killed goes on as if it had not been.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
    study.set_user_attr("overrides", list(overrides))
    study.set_user_attr("config_dirs", list(config_dirs))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # there is no public way back, and enqueue_trial would make another trial of it; the sweeper wants optuna 2.10
        study._storage.set_trial_state(trial._trial_id, TrialState.WAITING)
    return study


def told(study: Study) -> list[Noted]:
    """The trials that are over, in their order."""
    return [
        Noted(trial.number, trial.user_attrs.get(RUN_ID), trial.user_attrs.get(REFUSED))
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]
