"""``roadmap run``: train every step of a path with every seed, then show the table and the figure."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.compose import Composed, ConfigSettings
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError, WorkError
from roadmap.formatting import listed
from roadmap.runs.run_folder import one_name
from roadmap.steps.path import Step, compose_path

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.training.many_runs import Failures
    from roadmap.training.until import Decided, UntilDecided

logger = logging.getLogger(__name__)

ABOUT = """train every step of a path with every seed; finished runs are kept. workers=N: N processes of one thread
share the runs, a GPU each where there are several; workers=auto: as many as cores, without a GPU.
steps=[resnet50,gelu]: some of the steps. until=decided budget=2h: after `seeds`, further seeds where they decide a gap,
within hours, minutes (90m) or a number of runs (60); equivalence=0.5: gaps within ± 0.5 points are equal."""


def main(arguments: list[str]) -> int:
    parser = override_parser("run", ABOUT)
    parser.add_argument("--dry-run", action="store_true", help="print the runs, their cost and state; train nothing")
    options = parser.parse_intermixed_args(arguments)
    steps = _steps(checked_overrides(options.overrides), options.config_dir)
    requests = unique_runs(steps)
    workers = worker_count(steps[0].composed.settings)
    study = _study(steps, workers)
    if study and not options.dry_run:
        return _run_until_decided(study, workers)
    if options.dry_run:
        if study:
            print(study.announcement())
        from roadmap.sweeps.command import print_plan
        from roadmap.sweeps.planning import path_plan

        print_plan(path_plan(requests), max(workers, 1))
        return 0
    started = time.perf_counter()
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        say_choices(step.composed for step in steps)
    summaries, failures = _train(requests, workers)
    if is_main:
        if summaries:
            _report(steps, summaries)
        minutes = (time.perf_counter() - started) / 60
        print(f"{len(summaries)} runs finished; this call took {minutes:.1f} minutes")
        for label, failure in failures:
            logger.error(f"failed: {label}: {failure}")
    _raise_failures(failures, len(requests))
    return 0


def run(*overrides: str, config_dirs: Sequence[str] = ()) -> "pd.DataFrame":
    """Train every step of a path with every seed, as ``roadmap run`` does; return one row per run, as ``load_runs``.

    Finished runs are kept, interrupted ones resumed. With ``workers=`` the calling script needs Python's usual
    ``if __name__ == "__main__":``. Raises RequestError for invalid overrides, WorkError if runs failed, when all others
    are finished, and StoppedError after a signal.
    """
    from roadmap.runs.reading import load_runs
    from roadmap.runs.run_folder import finished_runs

    steps = _steps(checked_overrides([*overrides]), config_dirs)
    requests, workers = unique_runs(steps), worker_count(steps[0].composed.settings)
    if study := _study(steps, workers):
        _, failures = _until_decided(study, workers, logger.info)
        requests = study.requests
    else:
        _, failures = _train(requests, workers)
    _raise_failures(failures, len(requests))
    found = finished_runs([request.experiment() for request in requests])
    return load_runs([folder.path for _, folder in found.values()])


def worker_count(settings: ConfigSettings) -> int:
    """Return how many worker processes share the runs; 0: none, this process trains them with all of its threads.

    Raises RequestError with torchrun, whose processes train each run together.
    """
    if settings.workers == 1:
        return 0
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise RequestError(
            f"workers={settings.workers} does not go with torchrun, whose {processes} processes train each run "
            "together; leave one of them out"
        )
    if settings.workers != "auto":
        return settings.workers
    from roadmap.runtime.device import available_cores, choose_device

    return available_cores() if choose_device(settings.device).type == "cpu" else 0


def _steps(overrides: Sequence[str], config_dirs: Sequence[str]) -> list[Step]:
    """Return the steps to train. Raises RequestError for settings of other commands and unknown steps."""
    for key in map(key_of, overrides):
        if key in ("seed", "step"):
            raise RequestError("seed= and step= belong to `roadmap train`; `roadmap run` takes seeds=[…] and path=…")
        if key in ("engine", "study") or key.startswith("hydra"):
            raise RequestError(f"{key}= belongs to `roadmap sweep`; `roadmap run` takes workers=N")
    steps = compose_path(overrides, config_dirs)
    names = [step.name for step in steps]
    chosen = steps[0].composed.settings.steps or names
    for name in chosen:
        if name not in names:
            raise RequestError(f"unknown step {name} in steps= (choose {listed(names)})")
    # a step without the one before it has no gap
    return [
        replace(step, parent=step.parent if step.parent in chosen else None) for step in steps if step.name in chosen
    ]


def _study(steps: list[Step], workers: int) -> "UntilDecided | None":
    """Return the study of ``until=decided``. Raises RequestError for settings that do not go together."""
    settings = steps[0].composed.settings
    if settings.until is None:
        for name in ("budget", "equivalence"):
            if (value := getattr(settings, name)) is not None:
                raise RequestError(f"{name}={value} belongs to until=decided; add it, or leave {name}= out")
        return None
    from roadmap.training.until import UntilDecided

    return UntilDecided.of(steps, workers)


def _run_until_decided(study: "UntilDecided", workers: int) -> int:
    started, is_main = time.perf_counter(), os.environ.get("RANK", "0") == "0"
    if is_main:
        say_choices(step.composed for step in study.steps)
        print(study.announcement(), flush=True)
    found, failures = _until_decided(study, workers, partial(print, flush=True) if is_main else lambda sentence: None)
    if is_main:
        if study.summaries:
            _report(study.steps, [*study.summaries.values()])
        if found:
            print(found.table())
        print(f"this call took {(time.perf_counter() - started) / 60:.1f} minutes")
        for label, failure in failures:
            logger.error(f"failed: {label}: {failure}")
    _raise_failures(failures, len(study.summaries) + len(failures))
    return 0


def _until_decided(
    study: "UntilDecided", workers: int, say: Callable[[str], None]
) -> "tuple[Decided | None, Failures]":
    _write_plan(*study.plan())
    if not workers:
        return study.train(lambda requests: _train_planned(requests, 0), say)
    from roadmap.training.workers import WorkerPool

    with WorkerPool(workers) as pool:
        return study.train(lambda requests: pool.train(_with_workers(requests, workers)), say)


def _with_workers(requests: Sequence[Composed], workers: int) -> list[Composed]:
    return [replace(request, values=request.values | {"workers": max(workers, 1)}) for request in requests]


def _train(requests: Sequence[Composed], workers: int) -> "tuple[list[dict[str, Any]], Failures]":
    _write_plan(requests)
    return _train_planned(requests, workers)


def _write_plan(requests: Sequence[Composed], study: Mapping[str, Any] | None = None) -> None:
    if os.environ.get("RANK", "0") == "0":
        from roadmap.runs.sweep_plan import write_sweep
        from roadmap.sweeps.planning import path_plan

        plan = path_plan(requests, study)
        write_sweep(plan.runs_dir, plan.header, plan.runs)


def _train_planned(requests: Sequence[Composed], workers: int) -> "tuple[list[dict[str, Any]], Failures]":
    requests = _with_workers(requests, workers)
    if workers:
        from roadmap.training.workers import train_in_workers

        return train_in_workers(requests, workers)
    from roadmap.training.many_runs import run_all

    return run_all(requests)


def _raise_failures(failures: "Failures", runs: int) -> None:
    if failures:
        error = WorkError(f"{len(failures)} of {runs} runs failed; the same command tries them again")
        error.on_all_ranks = True
        raise error


def unique_runs(steps: list[Step]) -> list[Composed]:
    """Return the config of each run: all steps with the first seed, then with the next.

    Steps with the same design and recipe share a run. Raises RequestError if any config is not valid.
    """
    requests = [step.composed.with_seed(seed) for seed in steps[0].composed.seeds for step in steps]
    runs: dict[str, Composed] = {}
    for request in requests:
        runs.setdefault(request.experiment().run_id, request)
    return list(runs.values())


def _report(steps: list[Step], summaries: list[dict[str, Any]]) -> None:
    """Print the table and draw the figure of finished runs."""
    import pandas as pd

    from roadmap.comparison.roadmap_plot import RegimeRuns, draw_roadmap
    from roadmap.comparison.step_table import render, step_table
    from roadmap.plots.charts import save

    composed = steps[0].composed
    regime, runs_dir = composed.regime.name, composed.settings.runs_dir
    name = one_name(regime, composed.data_name, composed.path_name)
    runs = pd.DataFrame(summaries)
    table = step_table(runs, steps)
    chart = draw_roadmap([RegimeRuns(runs, steps)])
    for suffix in ("png", "svg"):
        file = Path(runs_dir, f"{name}.{suffix}")
        save(chart, file)
        print(f"figure: {file}")
    print(render(table, regime))
    print(f"`roadmap compare {runs_dir}` says which of these gaps are larger than the noise between seeds")
