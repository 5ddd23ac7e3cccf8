"""``roadmap run``: train every step of a path with every seed, then show the table and the figure."""

import logging
import time
from pathlib import Path
from typing import Any

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.compose import Composed
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError, WorkError
from roadmap.runs.run_folder import one_name
from roadmap.steps.path import Step, compose_path

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    parser = override_parser("run", "train every step of a path with every seed; finished runs are kept")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    for key in map(key_of, overrides):
        if key in ("seed", "step"):
            raise RequestError("seed= and step= belong to `roadmap train`; `roadmap run` takes seeds=[…] and path=…")
        if key in ("engine", "workers", "study") or key.startswith("hydra"):
            raise RequestError(f"{key}= belongs to `roadmap sweep`; `roadmap run` trains one run after the other")
    steps = compose_path(overrides, options.config_dir)
    requests = unique_runs(steps)
    started = time.perf_counter()
    from roadmap.runtime.distributed import world_from_env
    from roadmap.training.run import run_all

    is_main = world_from_env().is_main
    if is_main:
        say_choices(step.composed for step in steps)
    summaries, failures = run_all(requests)
    if is_main:
        if summaries:
            _report(steps, summaries)
        minutes = (time.perf_counter() - started) / 60
        print(f"{len(summaries)} runs finished; this call took {minutes:.1f} minutes")
        for label, failure in failures:
            logger.error(f"failed: {label}: {failure}")
    if failures:
        error = WorkError(f"{len(failures)} of {len(requests)} runs failed; the same command tries them again")
        error.on_all_ranks = True
        raise error
    return 0


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
