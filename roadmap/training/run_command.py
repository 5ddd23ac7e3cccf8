"""``roadmap run``: every step of a path × seeds, then the table and the figure."""

import time
from pathlib import Path
from typing import Any

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.compose import Composed
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.runs.run_folder import one_name
from roadmap.steps.path import Step, compose_path


def main(arguments: list[str]) -> int:
    parser = override_parser("run", "train every step of a path × seeds, or what is missing of it")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    for key in map(key_of, overrides):
        if key in ("seed", "step"):
            raise RequestError("seed= and step= belong to `roadmap train`; `roadmap run` takes seeds=[…] and path=…")
        if key in ("engine", "workers", "study") or key.startswith("hydra"):
            raise RequestError(f"{key}= belongs to `roadmap sweep`; `roadmap run` trains one run after the other here")
    steps = compose_path(overrides, options.config_dir)
    requests = planned(steps)
    started = time.perf_counter()
    from roadmap.runtime.distributed import launched
    from roadmap.training.run_queue import carry_out, check_all_done

    if launched().first:
        say_choices(step.composed for step in steps)
    summaries, failures = carry_out(requests)

    if launched().first:
        report(steps, summaries)
        say_time(summaries, time.perf_counter() - started)
    check_all_done(failures, len(requests))
    return 0


def planned(steps: list[Step]) -> list[Composed]:
    """One config a run, all steps of a seed before the next seed; steps of equal design and recipe share the first's.

    Every request is checked here, before any is worked on.
    """
    requests = [step.composed.with_seed(seed) for seed in steps[0].composed.seeds for step in steps]
    runs: dict[str, Composed] = {}
    for request in requests:
        runs.setdefault(request.experiment().run_id, request)
    return list(runs.values())


def report(steps: list[Step], summaries: list[dict[str, Any]]) -> None:
    """Print the table and draw the figure of finished runs; nothing if there are none."""
    if not summaries:
        return
    import pandas as pd

    from roadmap.comparison.step_table import render
    from roadmap.plots.command import draw_roadmap

    composed = steps[0].composed
    regime = composed.regime.name
    name = one_name(regime, composed.data_name, composed.path_name)
    runs_dir = composed.settings.runs_dir
    files = [Path(runs_dir) / f"{name}.{suffix}" for suffix in ("png", "svg")]
    print(render(draw_roadmap(pd.DataFrame(summaries), steps, files), regime))
    print(f"`roadmap compare {runs_dir}` says which of these gaps are more than the noise of the seeds")


def say_time(summaries: list[dict[str, Any]], seconds: float) -> None:
    """How long this call took; nothing where every run was there before."""
    print(f"{len(summaries)} runs finished; this call took {seconds / 60:.1f} minutes")
