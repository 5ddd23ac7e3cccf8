"""The trials of a search in Optuna's journal: which design is trained next, and when its run is pruned."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from roadmap.config.build import network_cost
from roadmap.config.compose import Composed
from roadmap.errors import PrunedError, RequestError, first_line
from roadmap.runs.identity import condition_keys
from roadmap.runs.reading import read_runs
from roadmap.runs.run_folder import METRICS, RunLock, RunLockedError, read_metrics
from roadmap.seeds import derived_seed
from roadmap.sweeps.search_space import Prune, SearchSpace

Curve = Mapping[int, float]  # epoch -> top-1 in percent
TRIES, RANDOM_TRIES = 10, 1000  # proposals of the sampler for one trial, then random ones


class SearchTrials:
    """The trials of a search, shared by all processes that work on it."""

    def __init__(self, space: SearchSpace):
        """Open the journal, or create it. Raises RequestError where it is damaged."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, file = space, space.folder / "journal.log"
        self.trial_lock: RunLock | None = None  # of the trial that this process trains
        file.parent.mkdir(parents=True, exist_ok=True)
        # the operating system frees this lock when its process is killed, unlike Optuna's own
        self.lock = FileLock(f"{file}.lock", is_singleton=False)
        try:
            storage = JournalStorage(JournalFileBackend(str(file), lock_obj=self.lock))  # type: ignore[arg-type]
            directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(space.search.objectives)]
            with self.lock:
                self.study = optuna.create_study(
                    study_name=space.name, storage=storage, directions=directions, load_if_exists=True
                )
        except OSError:
            raise
        except Exception as error:  # Optuna replays any JSON that it finds
            raise RequestError(
                f"{file} is damaged ({type(error).__name__}: {first_line(error)}); move it away, and the same command "
                "starts the search again and keeps the finished runs"
            ) from error

    def all(self) -> list[FrozenTrial]:
        """Return all trials, including running ones."""
        return self.study.get_trials(deepcopy=False)

    def next(self) -> FrozenTrial | None:
        """Return the next trial, locked for this process until it asks for another or ends.

        It is a trial whose process died, or else one of a new design; None if all trials exist or no new design was
        found.
        """
        with self.lock:
            if self.trial_lock is not None:
                self.trial_lock.release()
            trials = self.all()
            for trial in trials:
                if trial.state == TrialState.RUNNING and self._locked(trial.number):
                    return trial
            if len(trials) >= self.space.search.n_trials or (new := propose(self.study, self.space)) is None:
                return None
            self._locked(len(trials))
            self.study.add_trial(new)
            return self.all()[-1]

    def _locked(self, number: int) -> bool:
        lock = RunLock(self.space.base.settings.runs_dir, f"{self.space.name}-{number}")
        with suppress(RunLockedError):
            lock.acquire()
            self.trial_lock = lock
            return True
        return False


def propose(study: Study, space: SearchSpace) -> FrozenTrial | None:
    """Return a new trial of a valid design within the bounds and not tried yet; None if none was found.

    Rejected proposals are told to a copy of the study only. Random numbers depend only on the search's seed and the
    trial's number, so that a resumed search proposes the same designs. Raises RequestError if there is no first design.
    """
    trials, search = study.get_trials(deepcopy=False), space.search
    draft = optuna.create_study(directions=study.directions)
    draft.add_trials(trials)
    known = [trial.params for trial in trials]
    seed = derived_seed(search.seed, "trial", len(trials)) % 2**32
    nsgaii = search.sampler == "nsgaii"
    sampler = NSGAIISampler(population_size=search.population, seed=seed) if nsgaii else TPESampler(seed=seed)
    refusal = None
    for attempt in range(TRIES + RANDOM_TRIES):
        draft.sampler = sampler if attempt < TRIES else RandomSampler(seed + attempt)
        trial = draft.ask(space.distributions)
        if trial.params not in known and (refusal := space.refusal(trial.params)) is None:
            return draft.trials[-1]
        draft.tell(trial, state=TrialState.FAIL)
    if not trials:
        raise RequestError(f"no design of study.space can be trained: {refusal}")
    return None


def check_median(rows: Sequence[Mapping[str, Any]], curves: Sequence[Curve], prune: Prune) -> None:
    """Raise PrunedError where the best top-1 of ``rows`` is below the median of ``curves`` at the same epoch."""
    epoch, best = rows[-1]["epoch"], max((row["top1"] for row in rows if "top1" in row), default=0.0)
    there = [curve[epoch] for curve in curves if epoch in curve]
    if "top1" not in rows[-1] or len(there) < prune.startup_runs or epoch < prune.warmup_epochs:
        return
    others = median(there)
    if best < others:
        raise PrunedError(
            f"pruned after epoch {epoch}: the best top-1 so far, {best:.2f} %, is below {others:.2f} %, "
            f"the median of {len(there)} finished runs"
        )


def peers(composed: Composed, cost: str | None) -> list[Curve]:
    """Return top-1 by epoch of finished runs that differ only in design and seed and have at most the same ``cost``."""
    experiment = composed.experiment()
    runs, _ = read_runs([experiment.settings.runs_dir] if Path(experiment.settings.runs_dir).is_dir() else [])
    (own,) = condition_keys([experiment.definition])
    same = np.array([key == own for key in condition_keys(runs["definition"])], bool)
    runs = runs[(runs["status"] == "finished") & same]
    if cost is not None:
        runs = runs[runs[cost] <= getattr(network_cost(composed), cost)]
    histories = [read_metrics(Path(path) / METRICS) for path in runs["path"]]
    curves = [{row["epoch"]: row["top1"] for row in rows if "top1" in row} for rows in histories]
    # a run that was copied without its metrics has no curve
    return [curve for curve in curves if experiment.epochs in curve]
