"""``roadmap sweep study=search``: Optuna proposes designs through Hydra's own sweeper, as many as are missing."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.config.compose import options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError, WorkError
from roadmap.formatting import printable
from roadmap.runs.run_folder import one_name
from roadmap.runs.run_lock import RunLock, RunLockedError, holder
from roadmap.sweeps.search import PRUNED, Search, search_of
from roadmap.sweeps.search_space import SearchSpace

if TYPE_CHECKING:
    from roadmap.sweeps.trials import Noted

logger = logging.getLogger(__name__)

SWEEPER = "hydra_plugins.hydra_optuna_sweeper"


def is_search(overrides: Sequence[str], config_dirs: Sequence[str]) -> bool:
    """Whether the study that ``overrides`` choose is a search, which plans no list of runs."""
    chosen = [override for override in overrides if key_of(override) == "study"]
    return bool(chosen) and search_of(options_of(chosen, config_dirs)[0]) is not None


def search(overrides: list[str], config_dirs: list[str], dry_run: bool = False) -> int:
    """Do what is missing of a search's trials, then show its Pareto front; ``dry_run``: say what would be done."""
    check_installed()
    plan = Plan.of(overrides, config_dirs)
    if dry_run:
        print(plan.description())
        return 0
    from roadmap.runtime.launching import launching
    from roadmap.sweeps.trials import kept_in, open_study, told
    from roadmap.training import command

    with plan.held(), kept_in(plan.trials):
        study = open_study(plan.name, plan.storage, plan.search.directions, plan.overrides, plan.config_dirs)
        missing = plan.search.n_trials - len(told(study))
        print(
            f"search {plan.name}: {max(missing, 0)} of {plan.search.n_trials} trials to do; {plan.folder}", flush=True
        )
        if missing > 0:
            with launching():
                command.main(plan.arguments(missing))
        return report(plan, told(study))


def check_installed() -> None:
    """Raises RequestError where Optuna or Hydra's sweeper for it is missing; imports neither."""
    # a submodule cannot be asked for where its package is missing
    if any(find_spec(name) is None for name in ("optuna", "hydra_plugins")) or find_spec(SWEEPER) is None:
        raise RequestError(
            "study=search needs Optuna and Hydra's sweeper for it; pip install 'convnext-roadmap[search]'"
        )


@dataclass(frozen=True)
class Plan:
    """A search: what it is called, where it is kept, and how it is started."""

    space: SearchSpace
    config_dirs: tuple[str, ...]

    @classmethod
    def of(cls, overrides: Sequence[str], config_dirs: Sequence[str]) -> "Plan":
        """The search that ``overrides`` ask for. Raises RequestError where something does not fit, before any trial."""
        if len(config_dirs) > 1:
            raise RequestError("study=search takes one --config-dir")
        return cls(SearchSpace.of(overrides, config_dirs), tuple(config_dirs))

    @property
    def search(self) -> Search:
        return self.space.search

    @property
    def overrides(self) -> list[str]:
        """What holds for every trial, and what is varied."""
        return [*self.space.fixed, *(f"{key}={sweep}" for key, sweep in self.space.sweeps.items())]

    @property
    def name(self) -> str:
        """What it is called: regime, data, and a hash of all that defines it but the number of trials."""
        experiment = self.space.sample.experiment()
        definition = experiment.definition
        del definition["seed"]
        asked = {key: value for key, value in self.search.to_dict().items() if key not in ("n_trials", "jobs")}
        tuned = sorted(word for word in self.space.hydra if key_of(word).startswith("hydra.sweeper."))
        text = dumps([definition, experiment.seed, self.space.sweeps, asked, tuned], sort_keys=True)
        return one_name("search", experiment.regime, experiment.data.name, sha256(text.encode()).hexdigest()[:6])

    @property
    def runs_dir(self) -> str:
        return self.space.sample.experiment().settings.runs_dir

    @property
    def folder(self) -> Path:
        return Path(self.runs_dir) / "searches" / self.name

    @property
    def trials(self) -> Path:
        return self.folder / "trials.db"

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.trials.resolve()}"

    def arguments(self, trials: int) -> list[str]:
        """What ``roadmap train`` is started with for so many more trials."""
        search = self.search
        sweeper = {
            "hydra/hydra_logging": "disabled",
            "hydra/sweeper": "optuna",
            "hydra/sweeper/sampler": search.sampler,
            "hydra.sweeper.sampler._target_": f"roadmap.sweeps.trials.{search.sampler}",
            "hydra.sweeper.sampler.seed": search.seed,
            **({"hydra.sweeper.sampler.population_size": search.population} if search.sampler == "nsgaii" else {}),
            "hydra.sweeper.direction": f"[{','.join(search.directions)}]",
            "hydra.sweeper.study_name": _quoted(self.name),
            "hydra.sweeper.storage": _quoted(self.storage),
            "hydra.sweeper.n_trials": trials,
            "hydra.sweeper.n_jobs": search.jobs,
            "hydra.sweeper.max_failure_rate": 1.0,  # what is pruned has failed, to the sweeper
            "hydra.sweeper.custom_search_space": "roadmap.sweeps.trials.note",
            "hydra.sweep.dir": _quoted(str(self.folder)),
            "objectives": f"[{','.join(search.objectives)}]",
        }
        folders = [word for folder in self.config_dirs for word in ("--config-dir", folder)]
        return ["-m", *(f"{k}={v}" for k, v in sweeper.items()), *self.space.hydra, *self.overrides, *folders]

    def description(self) -> str:
        """What would be done, on a few lines."""
        varied = "\n".join(f"  {key}={sweep}" for key, sweep in self.space.sweeps.items())
        command = shlex.join(["roadmap", "train", *self.arguments(self.search.n_trials)])
        return f"search {self.name}: {self.search.n_trials} trials of\n{varied}\nas by\n{command}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """The search's folder, this process's alone. Raises WorkError where another process is at the search."""
        claim = RunLock(self.runs_dir, self.name)
        try:
            claim.take()
        except RunLockedError as error:
            raise WorkError(f"search {self.name} is being run by {holder(claim.file)}") from error
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            claim.free()


def _quoted(text: str) -> str:
    """As a word that Hydra's grammar takes whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def report(plan: Plan, trials: "list[Noted]") -> int:
    """Say what became of the trials, then show the front. Raises WorkError where none was trained to the end."""
    from roadmap.comparison.pareto import draw_pareto, front, text
    from roadmap.plots.charts import save
    from roadmap.runs.reading import read_runs

    runs, _ = read_runs(plan.runs_dir)
    runs = runs[runs["run_id"].isin({trial.run_id for trial in trials if trial.run_id})]
    fates = Fates.of(trials, dict(zip(runs["run_id"], runs.to_dict("records"), strict=True)))
    print(fates.sentence(plan.name))
    for sentence in fates.failures:
        logger.error(f"failed: {sentence}")
    if not fates.trained:
        raise WorkError(f"no trial of search {plan.name} was trained to the end")
    found = front(runs, "params" if plan.search.cost == "params_m" else "gmacs")
    print(printable(text(found)))
    file = plan.folder / "pareto.png"
    save(draw_pareto(found), file)
    print(f"figure: {file}")
    return 0


@dataclass(frozen=True)
class Fates:
    """How many trials went which way, and what is said of each run that failed."""

    trials: int
    designs: int
    trained: int
    pruned: int
    refused: int
    failures: list[str]

    @classmethod
    def of(cls, trials: "list[Noted]", runs: dict[str, dict[Any, Any]]) -> "Fates":
        """Of trials, from the records of their runs by run_id."""
        known = [(trial, runs.get(trial.run_id or "", {})) for trial in trials if not trial.refused]
        pruned = [run for _, run in known if str(run.get("error")).startswith(PRUNED)]
        trained = [run for _, run in known if run.get("status") == "finished"]
        others = [(trial, run) for trial, run in known if run not in pruned and run not in trained]
        failures = [f"trial {trial.number}: {_why(run)}" for trial, run in others]
        designs = len({run["run_id"] for run in trained})
        return cls(len(trials), designs, len(trained), len(pruned), len(trials) - len(known), failures)

    def sentence(self, name: str) -> str:
        """One line."""
        return (
            f"search {name}: {self.trials} trials: {self.trained} trained to the end ({self.designs} designs), "
            f"{self.pruned} pruned on the way, {self.refused} rejected untrained, {len(self.failures)} failed"
        )


def _why(run: dict[Any, Any]) -> str:
    """What is known of a run that is neither finished nor pruned."""
    if not run:
        return "it left no record"
    return run["error"] if isinstance(run["error"], str) else f"its run is {run['status']}"
