"""``roadmap sweep study=search``: train the designs that Optuna proposes, then show the Pareto front."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from optuna.trial import FrozenTrial, TrialState

from roadmap.comparison.tradeoff_plot import draw_pareto, front, text
from roadmap.errors import PrunedError, RequestError, WorkError
from roadmap.formatting import printable
from roadmap.plots.charts import save
from roadmap.runs.reading import read_runs
from roadmap.runtime.device import choose_device, share_gpus
from roadmap.runtime.distributed import World, init_processes, local_device, world_from_env
from roadmap.runtime.launcher import launch
from roadmap.sweeps.search_space import SearchSpace
from roadmap.sweeps.trials import SearchTrials, check_median, peers
from roadmap.training.many_runs import run_all

logger = logging.getLogger(__name__)


def search(overrides: list[str], config_dirs: list[str], dry_run: bool = False) -> int:
    """Train the missing trials of a search, then show its Pareto front; ``dry_run``: only say what it varies."""
    space = SearchSpace.of(overrides, config_dirs)
    if (packed := space.base.settings.packed) > 1:
        raise RequestError(f"packed={packed} does not go with study=search, whose trials follow one another (choose 1)")
    if dry_run:
        varied = "".join(f"\n  {key}={sweep}" for key, sweep in space.sweeps.items())
        print(f"search {space.name}: {space.search.n_trials} trials, proposed by {space.search.sampler}, of{varied}")
        return 0
    trials = SearchTrials(space)
    missing = space.search.n_trials - sum(trial.state.is_finished() for trial in trials.all())
    print(f"search {space.name}: {max(missing, 0)} of {space.search.n_trials} trials to do; {space.folder}", flush=True)
    if missing > 0:
        launch(partial(work, overrides, config_dirs), space.fixed, config_dirs, space.base.settings.jobs)
    return report(space, trials)


def work(overrides: Sequence[str], config_dirs: Sequence[str], worker: int, since: str) -> None:
    """One worker: trains one trial after another until none is missing."""
    space = SearchSpace.of(overrides, config_dirs)
    device = space.base.settings.device
    if world_from_env().size == 1:
        share_gpus(device, worker)
    world, trials = init_processes(local_device(choose_device(device))), None
    with world.collective_errors():
        if world.is_main:
            trials = SearchTrials(space)
    while True:
        with world.collective_errors():
            trial = trials.next() if trials is not None else None
        trial = world.broadcast(trial)
        if trial is None:
            return
        values, state = train(space, trial, world, since)
        if trials is not None:
            trials.study.tell(trial.number, values, state)


def train(space: SearchSpace, trial: FrozenTrial, world: World, since: str) -> tuple[list[float] | None, TrialState]:
    """Train the run of a trial; returns its values, None unless it was trained to the end, and its state."""
    request, pruner = space.composed(trial.params), None
    if world.is_main:
        print(f"trial {trial.number}: {request.variant}", flush=True)
        if space.search.prune is not None:
            pruner = partial(check_median, curves=peers(request, space.search.cost), prune=space.search.prune)
    try:
        summaries, failures = run_all([request], request.settings.retries, since, pruner)
    except PrunedError as pruned:
        logger.info(f"trial {trial.number} {pruned}")
        return None, TrialState.PRUNED
    if failures:
        logger.warning(f"trial {trial.number} failed: {failures[0][1]}")
        return None, TrialState.FAIL
    return [summaries[0][name] for name in space.search.objectives], TrialState.COMPLETE


def report(space: SearchSpace, trials: SearchTrials) -> int:
    """Print how many trials ended in which way, and the front. Raises WorkError where none was trained to the end."""
    counts = Counter(trial.state.name for trial in trials.all())
    print(
        f"search {space.name}: {counts.total()} trials: {counts['COMPLETE']} trained to the end, {counts['PRUNED']} "
        f"pruned, {counts['FAIL']} failed, {counts['RUNNING']} running"
    )
    if counts.total() < space.search.n_trials:
        print("no other design of study.space was found that is valid and within the bounds")
    if not counts["COMPLETE"]:
        raise WorkError(f"no trial of search {space.name} was trained to the end")
    runs, _ = read_runs(space.base.settings.runs_dir)
    experiment = space.composed(trials.all()[0].params).experiment()
    run_ids = {experiment.replace(design=space.design(trial.params)).run_id for trial in trials.all()}
    found = front(runs[runs["run_id"].isin(run_ids)], "params" if space.search.cost == "params_m" else "gmacs")
    print(printable(text(found)))
    figure = space.folder / "pareto.png"
    save(draw_pareto(found), figure)
    print(f"figure: {figure}")
    return 0
