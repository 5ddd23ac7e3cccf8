"""A search's trials in Optuna's storage: how they are sampled, what is noted with each, how a killed one goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from roadmap.config import compose, key_of
from roadmap.errors import RequestError
from roadmap.search import search_of
from roadmap.seeds import derived_seed

RUN_ID, REFUSED = "run_id", "refused"  # user attributes of a trial


class SeededByTrial(BaseSampler):
    """One of Optuna's samplers, made anew for each trial with a seed of the search's and the trial's number.

    With one generator for all trials a search that is resumed would draw the first ones again.
    """

    def __init__(self, kind: Callable[..., BaseSampler], seed: int, settings: dict[str, Any]):
        self.kind, self.seed, self.settings = kind, seed, settings
        self.made: tuple[int, BaseSampler] | None = None

    def of(self, trial: FrozenTrial) -> BaseSampler:
        """The sampler of a trial."""
        if self.made is None or self.made[0] != trial.number:
            seed = derived_seed(self.seed, "trial", trial.number) % 2**32
            self.made = trial.number, self.kind(seed=seed, **self.settings)
        return self.made[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        return self.of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, distribution: Any) -> Any:
        return self.of(trial).sample_independent(study, trial, param_name, distribution)


def tpe(seed: int, **settings: Any) -> BaseSampler:
    """Tree-structured Parzen estimator, of several objectives too (doi:10.1145/3377930.3389817)."""
    return SeededByTrial(TPESampler, seed, settings)


def nsgaii(seed: int, **settings: Any) -> BaseSampler:
    """NSGA-II (doi:10.1109/4235.996017)."""
    return SeededByTrial(NSGAIISampler, seed, settings)


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
    if search is not None and (refusal := search.refusal(composed)):
        trial.set_user_attr(REFUSED, refusal)
    else:
        trial.set_user_attr(RUN_ID, composed.experiment().run_id)


@dataclass(frozen=True)
class Noted:
    """A trial that has been told: the run it was, or why it was none."""

    number: int
    run_id: str | None
    refused: str | None


def open_study(name: str, storage: str, directions: list[str]) -> Study:
    """The study in a storage, made if it is not there; trials that were killed will be asked for again.

    A trial keeps its number and what was sampled for it, so a search that was killed goes on as if it had not been.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
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
